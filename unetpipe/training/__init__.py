"""The loop, its data and its state."""
