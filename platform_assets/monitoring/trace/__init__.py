"""Trace an answer back to the source rows that it was made from."""
