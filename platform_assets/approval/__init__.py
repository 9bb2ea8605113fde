"""Who decides about models: policy, ledger, promotion, audit, and the pages where people approve."""
