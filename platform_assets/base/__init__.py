"""Helpers for all rooms: errors, logs, frames, JSON, SQL quoting, scratch folders and others."""
