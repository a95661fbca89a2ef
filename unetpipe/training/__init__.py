"""The loop, its data and its state: patches, loss, validation, checkpoints, curves."""
