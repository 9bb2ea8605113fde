"""Helpers for all subpackages: errors, logs, frames, JSON, SQL quoting, scratch folders and others."""
