"""Two code optimisations: a distance formula as fast as memory delivers, and a table as small as its values allow.

`distance.py` and `memory.py` are ordinary library functions; two assets use them. There is no model and no web
source. Decisions, reasons and measurements are in this folder's README.md.
"""
