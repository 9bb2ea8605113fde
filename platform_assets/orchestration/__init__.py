"""Dagster helpers that every domain shares; none knows a domain."""
