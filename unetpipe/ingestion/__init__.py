"""Originals to stored volumes."""
