"""Originals to stored volumes: fetched, unpacked, checked with each other, kept."""
