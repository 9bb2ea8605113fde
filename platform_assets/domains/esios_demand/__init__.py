"""Spanish power demand: harvest the hourly forecast of the grid operator from the ESIOS API, check it, and load it.

Decisions and their reasons are in this folder's README.md.
"""
