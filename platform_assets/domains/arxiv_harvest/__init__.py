"""arXiv harvest: search arXiv, store queries and results, serve them, and repeat saved searches on a schedule.

The README.md in this folder explains the design decisions.
"""
