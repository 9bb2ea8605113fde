"""Source of credit risk's raw data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.credit_risk import demo
from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.landing.declared_sources import DeclaredSource
from platform_assets.landing.landed_rows import Landed, land

if TYPE_CHECKING:
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.declared_sources import Sources

LOANS = DeclaredSource(CreditRiskSettings, "credit_loans_uri", demo.LOANS)


def read_loans(sources: Sources, engine: Engine) -> Landed:
    """Return the loans as delivered, including bad lines.

    Raises
    ------
    SourceError
        The source is not set, is missing or unreachable, or is not a table.
    """
    return land(sources.find(LOANS), engine)
