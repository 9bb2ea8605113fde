"""Dagster plumbing: storage, run locks, failures, console."""
