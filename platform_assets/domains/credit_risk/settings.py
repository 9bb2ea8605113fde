"""The environment variables of credit risk."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from platform_assets.settings import DomainSettings


class CreditRiskSettings(DomainSettings):
    """Location of the loans."""

    credit_loans_uri: Annotated[
        str, Field(description="The loans: CSV or parquet, a path or any fsspec URI; empty: demo data.")
    ] = ""
