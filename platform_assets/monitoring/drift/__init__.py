"""Drift of new rows from the training rows of models, and performance that is estimated without labels."""
