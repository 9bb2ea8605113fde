"""Stocks: the probability that a share closes higher on its next trading day.

Three features are computed for each share and trading day, as of that day's close. The newest features of each share
are also stored in PostgreSQL. README.md in this folder explains the decisions.
"""
