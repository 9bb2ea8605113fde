"""Credit risk: the probability that a loan is not paid back on time.

The loans (one row each) give five point-in-time features per loan, as of the day on which it was granted, and the
newest features per client. README.md in this folder explains the decisions.
"""
