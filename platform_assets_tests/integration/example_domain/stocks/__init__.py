"""Stocks: how likely it is that a share closes higher on its next trading day.

From one row per share and day to three features per row, as they were known at that day's close, and the newest of them
per share. Decisions and reasons are in this folder's README.md.
"""
