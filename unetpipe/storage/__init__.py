"""OME-Zarr, shards, receipts, pyramids, and the stores of predictions."""
