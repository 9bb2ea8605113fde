"""The HTTP side: one application, which programs ask and on whose pages people decide.

Its parts: `app.py` puts it together, `guard.py` stands before every request, `problems.py` says what went
wrong, `access.py` knows who asks, `pages.py` renders HTML, and `approvals.py` with `evidence.py` is the page where
a person decides. Nothing here decides anything itself; that is for the ledger.
"""
