"""Stocks: the probability that a share closes higher on its next trading day.

The prices (one row per share and day) give three point-in-time features per row, as of that day's close, and the newest
features per share. README.md in this folder explains the decisions.
"""
