"""The rows that a prediction of credit risk was made from: the client's features, and all loans of the client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.credit_risk.features import newest_per_client
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.credit_risk.schemas import LOAN_FEATURES, LOANS
from platform_assets.domains.credit_risk.sources import read_loans
from platform_assets.monitoring.trace.declarations import RowsBehind, TracedAnswers

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ibis.expr.types as ir


def features_of_client(loan_features: ir.Table, answer: Mapping[str, Any]) -> ir.Table:
    """Return the features of the client's newest loan."""
    return newest_per_client(loan_features.filter(loan_features.client_id == int(answer["subject"])))


def loans_of_client(loans: ir.Table, answer: Mapping[str, Any]) -> ir.Table:
    """Return all loans of the client, because the features count the earlier ones."""
    return loans.filter(loans.id == int(answer["subject"]))


PREDICTIONS = TracedAnswers(
    model=MODEL.name,
    behind=(RowsBehind(LOAN_FEATURES, features_of_client), RowsBehind(LOANS, loans_of_client, read_loans)),
)
