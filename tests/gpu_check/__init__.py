"""Proof on a first GPU that results are right there, and how fast it is."""
