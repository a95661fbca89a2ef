"""Scores of one volume, of folds, of variants; baselines; whether seams show."""
