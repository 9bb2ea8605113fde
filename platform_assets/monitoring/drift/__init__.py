"""Drift of new rows from a model's training rows, and performance estimated without labels."""
