"""Credit risk data for tests of the service: generated features in the lake and the database, and fitted champions."""

from __future__ import annotations

import dataclasses
import datetime as dt
import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from platform_assets.domains.credit_risk.features import loan_features, newest_per_client
from platform_assets.domains.credit_risk.model import MODEL, NAMES, gradient_boosting, logistic_regression
from platform_assets.domains.credit_risk.schemas import CLIENT_FEATURES, LOAN_FEATURES
from platform_assets.engine.query_engine import as_frame
from platform_assets.models.fitted_model import GOLDEN_ROWS, FittedModel, library_versions
from platform_assets.models.thread_limits import one_thread
from platform_assets_tests.approval.proposals import SOMEBODY, promote
from platform_assets_tests.domains.credit_risk.brute_force import Loan
from platform_assets_tests.domains.credit_risk.test_features import LOAN_SCHEMA

if TYPE_CHECKING:
    import pandas as pd

    from platform_assets.services import Services

FIRST_CLIENT, CLIENTS = 5_000_001, 1_000
NOBODY = 9_999_999_999
METRICS = {"roc_auc": {"value": 0.8, "low": 0.7, "high": 0.9}, "lift": {"value": None, "low": None, "high": None}}
EVIDENCE = {"verdict": {"passed": True, "reasons": []}, "metrics": METRICS, "demo": True}


def loans_of(clients: int = CLIENTS, seed: int = 1) -> list[Loan]:
    """Return one to five random loans per client; some have the same date, some clients have no job."""
    chance = random.Random(seed)
    loans: list[Loan] = []
    for client in range(FIRST_CLIENT, FIRST_CLIENT + clients):
        birthday = dt.date(1950, 1, 1) + dt.timedelta(chance.randrange(18_000))
        job = chance.choice([None, dt.date(3021, 9, 18), dt.date(2005, 1, 1) + dt.timedelta(chance.randrange(4_000))])
        car = chance.choice("YN")
        for _ in range(chance.randint(1, 5)):
            day = dt.date(2019, 1, 1) + dt.timedelta(chance.randrange(300))
            amount = round(chance.uniform(50, 250), 6)
            status = int(chance.random() < 0.1 + 0.3 * (car == "N"))
            loans.append(Loan(len(loans) + 1, client, birthday, job, day, amount, car, status))
    return loans


def publish_features(services: Services, clients: int = CLIENTS) -> None:
    """Publish the features of generated loans to the lake and to the online table."""
    loans = [loan._asdict() for loan in loans_of(clients)]
    source = services.engine.as_expression(pa.Table.from_pylist(loans, schema=LOAN_SCHEMA.to_pyarrow()))
    with services.engine.stage(loan_features(source)) as staged:
        services.tables.publish(LOAN_FEATURES.name, staged)
    with services.engine.stage(newest_per_client(services.tables.scan(LOAN_FEATURES.name))) as staged:
        services.online.publish(CLIENT_FEATURES.name, staged, CLIENT_FEATURES.key)


def training_frame(services: Services) -> pd.DataFrame:
    """Return all loans with their features, as training reads them."""
    found: pd.DataFrame = as_frame(services.tables.scan(LOAN_FEATURES.name).order_by("loan_id"))
    return found


def newest_rows(services: Services) -> pd.DataFrame:
    """Return the training row of each client's newest loan, indexed by client."""
    frame = training_frame(services).sort_values(["client_id", "loan_date", "loan_id"])
    return frame.groupby("client_id", as_index=False).tail(1).set_index("client_id")


def fitted(services: Services, kind: str = "linear") -> FittedModel:
    """Return a model that is fitted on the published features."""
    frame = training_frame(services)
    estimator = {"linear": logistic_regression, "boosting": gradient_boosting}[kind](1)
    with one_thread():
        estimator.fit(frame[NAMES], frame["status"])
    golden = frame[NAMES].head(GOLDEN_ROWS)
    model = FittedModel(estimator, tuple(NAMES), golden, np.zeros(len(golden)), library_versions())
    return dataclasses.replace(model, golden_scores=model.scores(golden))


def crown(services: Services, model: FittedModel | str, version: int, threshold: float = 0.5, **others: Any) -> int:
    """Approve a model and make it the champion. Return the number of its approval request.

    Parameters
    ----------
    model
        The model, or the digest of a stored model.
    """
    digest = model if isinstance(model, str) else services.artefacts.save(model)
    fields = {"model": MODEL.name, "threshold": threshold, "evidence": EVIDENCE, **others}
    return promote(services.ledger, version, SOMEBODY, digest=digest, **fields)
