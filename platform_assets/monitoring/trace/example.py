"""Example of a trace, for the documentation of the HTTP route `/trace/{request_id}`."""

from __future__ import annotations

from typing import Any

_AT, _RUN, _DIGEST = "2026-02-28T09:30:00Z", "b971cbc0-3581-4389-9e70-23bab12cfd63", "9f86d081884c7d65" * 4
_FEATURES = {"age": 32, "flag_own_car": 1, "years_on_the_job": 11, "nb_previous_loans": 15}
_FILE = "loans.csv (PLATFORM_CREDIT_LOANS_URI)"
_LOAN = {"loan_id": 1006, "id": 5008804, "loan_date": "2020-12-26", "loan_amount": 162.69859188012532}
_ROW = {"values": _LOAN, "file": _FILE, "file_digest": _DIGEST, "line": 8083, "text": {"loan_id": "1006"}}
_ANSWER = {
    "model": "credit_risk_model",
    "version": 3,
    "approval_id": 7,
    "at": _AT,
    "caller": "shop",
    "subject": "5008804",
    "answer": {"score": 0.0421, "positive": False, "threshold": 0.0655},
    "features": _FEATURES,
    "read_from": "credit_risk/client_features@12",
    "inputs": {"credit_risk/loan_features": 14},
    "rows": [
        {
            "table": "credit_risk/loans",
            "version": 15,
            "rows": [_ROW],
            "more": 0,
            "equal_to_served": None,
            "missing": [],
        }
    ],
    "shadows": [
        {"version": 4, "approval_id": 8, "score": 0.0712, "positive": True, "threshold": 0.0655, "agrees": False}
    ],
    "missing": [],
}
_MODEL = {
    "name": "credit_risk_model",
    "version": 3,
    "approval_id": 7,
    "digest": _DIGEST,
    "threshold": 0.0655,
    "decisions": [
        {
            "kind": "approve",
            "by": "anna",
            "verified": True,
            "at": _AT,
            "reason": "better than the champion",
            "told": "approved by anna at 2026-02-28 09:30:00 UTC: better than the champion",
        }
    ],
    "dagster_run": _RUN,
    "mlflow_run": "8daf4d1e27d446489cc66f57659e0970",
    "launched_by": "schedule:train_credit_risk_model_nightly",
    "trained_at": _AT,
    "git_commit": "63c54e45f64ed94bd635e1f6d88c77abef00a53b",
    "code": "0.1.0+63c54e45f64e",
    "lock_digest": _DIGEST,
    "demo": False,
    "tables": {"credit_risk/loan_features": 14, "credit_risk/loans": 15},
    "table_digests": {"credit_risk/loan_features": "duckdb-2.0.0:8a38", "credit_risk/loans": "duckdb-2.0.0:7a72"},
    "missing": [],
}
_TABLE = {
    "name": "credit_risk/loans",
    "version": 15,
    "digest": "duckdb-2.0.0:7a72",
    "rows": 615509,
    "committed_at": _AT,
    "run": _RUN,
    "code": "0.1.0+63c54e45f64e",
    "demo": False,
    "source": _FILE,
    "source_digest": _DIGEST,
    "inputs": {},
    "missing": "",
    "undone": "",
}
EXAMPLE: dict[str, Any] = {
    "id": "3f2a8c0de1b94a7f9d5c6b7a8e9f0a1b",
    "total": 1,
    "answers": [_ANSWER],
    "models": [_MODEL],
    "tables": [_TABLE],
}
