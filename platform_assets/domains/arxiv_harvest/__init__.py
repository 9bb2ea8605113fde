"""arXiv harvest: search arXiv, store queries and results, serve them, and repeat saved searches on a schedule.

Decisions and their reasons are in this folder's README.md.
"""
