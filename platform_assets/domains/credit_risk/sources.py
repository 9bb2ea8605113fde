"""Where credit risk's raw data come from."""

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
    """The loans as they were delivered, every line of them.

    Raises
    ------
    SourceError
        No source is set, or it is missing, unreachable or no table.
    """
    return land(sources.find(LOANS), engine)
