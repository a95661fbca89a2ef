"""What to learn: cells, the weights of their borders, annotated sections."""
