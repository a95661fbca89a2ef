"""OME-Zarr, shards, receipts, pyramids, stores of predictions, their verification."""
