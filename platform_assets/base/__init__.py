"""Errors, logs, frames, JSON, SQL quoting, scratch folders and other small things that every room uses."""
