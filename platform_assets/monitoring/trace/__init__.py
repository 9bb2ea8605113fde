"""Trace an answer (a stored prediction or forecast) back to the source rows from which it was computed."""
