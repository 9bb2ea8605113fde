"""Errors, logs, frames, JSON, SQL quoting, scratch folders and other helpers that every room uses."""
