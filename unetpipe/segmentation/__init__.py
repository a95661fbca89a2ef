"""From probability to objects, block by block: components, watershed, runs."""
