"""Measurements against hand-written code, run by `make bench`; nothing here is a test."""
