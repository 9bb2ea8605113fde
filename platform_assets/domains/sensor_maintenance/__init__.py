"""Sensor maintenance: which devices need maintenance, predicted from two sensor readings.

A model is trained on labelled readings. It makes predictions for readings that arrive as files, and these predictions
are stored. README.md in this folder explains the decisions.
"""
