"""Sensor maintenance: which devices need maintenance, predicted from two sensor readings.

A model is trained on labelled readings. Readings that arrive as files are predicted and stored. README.md in this
folder explains the decisions.
"""
