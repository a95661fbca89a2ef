"""From probability to objects, block by block."""
