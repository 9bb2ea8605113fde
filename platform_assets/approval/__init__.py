"""Approval of model versions: policy, ledger, promotion, audit, and the web pages for approvers."""
