"""Credit risk: the probability that a loan is not paid back on time.

Five point-in-time features are computed for each loan, as of the day on which it was granted. The features of each
client's newest loan are served online. README.md in this folder explains the decisions.
"""
