"""Credit risk: how likely it is that a loan is not paid back on time.

From one row per loan to five features per loan, as they were known on the day it was granted,
and the newest of them per client. Decisions and reasons are in this folder's README.md.
"""
