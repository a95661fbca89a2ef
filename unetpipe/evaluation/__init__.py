"""Scores of one volume, of folds and of seams."""
