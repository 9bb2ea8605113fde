"""Integration with Dagster: storage, run locks, failures, console."""
