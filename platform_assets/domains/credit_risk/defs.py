"""Credit risk in Dagster: wiring only. `sources.py` and `features.py` do the work."""

import dagster as dg

from platform_assets.base.frames import Expression
from platform_assets.domains.credit_risk import features, schemas
from platform_assets.domains.credit_risk.sources import LOANS, read_loans
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import online_check, table_asset
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.sensors import source_changed_sensor

OWNERS = ["team:credit-risk"]


@table_asset(schemas.LOANS, owners=OWNERS)
def loans(sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]) -> Landed:
    """One row per loan, as delivered. Invalid rows are in `loans_quarantine`."""
    return read_loans(sources, engine)


@table_asset(schemas.LOAN_FEATURES, owners=OWNERS, kinds={"duckdb"})
def loan_features(loans: Expression) -> Expression:
    """Five point-in-time features of each loan, as of the day on which it was granted."""
    return features.loan_features(loans)


@table_asset(schemas.CLIENT_FEATURES, owners=OWNERS)
def client_features(loan_features: Expression) -> Expression:
    """The features of each client's newest loan, served one client at a time."""
    return features.newest_per_client(loan_features)


client_features_are_current = online_check(schemas.CLIENT_FEATURES, schemas.LOAN_FEATURES, features.newest_per_client)

credit_loans_changed = source_changed_sensor("credit_loans_changed", LOANS, loans, "train_credit_risk_model")
