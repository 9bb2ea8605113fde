"""Trace: from an answer to the raw bytes behind it."""
