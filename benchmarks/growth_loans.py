"""Measure how the costs of the credit-risk tables grow, from the bureau's CSV file to the published features.

`python -m benchmarks.growth_loans FILE HOME ENGINE` prints the cost of each step. All steps run in this process,
without Dagster, and call the same functions as the assets do. `growth.py` starts this module once for each size.
"""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import SecretStr

from benchmarks.process_costs import measured
from platform_assets.domains.credit_risk import demo
from platform_assets.domains.credit_risk.features import loan_features
from platform_assets.domains.credit_risk.schemas import LOAN_FEATURES, LOANS
from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.domains.credit_risk.sources import read_loans
from platform_assets.lake.publication import Publisher
from platform_assets.services import Services
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from platform_assets.lake.schemas import TableSchema
    from platform_assets.lake.validation import Validated

MEMORY = "2GB"
SPARK = "local[2]"
BETWEEN_COPIES = 10_000_000
"""Difference between the ids of two copies of the sample."""


def write_loans(file: Path, rows: int, copies: int) -> None:
    """Write a CSV file with copies of the sample loans, including their bad lines. The ids of each copy are unique."""
    sample = demo.generate(file.with_suffix(".sample"), rows)
    header, *lines = sample.read_bytes().splitlines(keepends=True)
    with file.open("wb") as target:
        target.write(header)
        for copy in range(copies):
            target.writelines(_shifted(line, copy * BETWEEN_COPIES) for line in lines)
    sample.unlink()


def _shifted(line: bytes, by: int) -> bytes:
    loan, client, rest = line.split(b",", 2)
    # In some of the bad lines, the client id is missing.
    return b"%d,%b,%b" % (int(loan) + by, b"%d" % (int(client) + by) if client else client, rest)


def main(file: Path, home: Path, engine: str) -> None:
    """Land, validate and publish the loans, then compute, validate and publish their features."""
    settings = Settings.model_validate(
        {
            "home": home,
            "lake_uri": "",
            "database_url": SecretStr(""),
            "engine_memory": MEMORY,
            "engine": engine,
            "spark_remote": SPARK if engine == "spark" else "",
        }
    )
    with closing(Services(settings, (CreditRiskSettings(credit_loans_uri=str(file)),))) as services:
        # Start the database before the measurements: the validator reads the list of erased persons from the database.
        services.database.connect("platform").close()
        with file.open("rb") as lines:
            rows = sum(chunk.count(b"\n") for chunk in iter(lambda: lines.read(1 << 20), b"")) - 1
        if engine == "duckdb":
            landed = measured("land", rows, lambda: read_loans(services.sources, services.engine))
            loans = measured("validate", rows, lambda: services.validator.validate(LOANS, landed))
            measured("commit loans", rows, lambda: _publish(services, LOANS, loans))
        else:
            _publish(services, LOANS, services.validator.validate(LOANS, read_loans(services.sources, services.engine)))
            # Spark starts when it gets its first expression. Start it before the measurements.
            services.engine.is_on_cluster(services.tables.scan(LOANS.name, on_cluster=True))
        features = measured("features", rows, lambda: _features(services))
        measured("commit features", rows, lambda: _publish(services, LOAN_FEATURES, features))


def _features(services: Services) -> Validated:
    loans = services.tables.scan(LOANS.name, on_cluster=True)
    return services.validator.validate(LOAN_FEATURES, loan_features(loans))


def _publish(services: Services, schema: TableSchema, validated: Validated) -> None:
    publisher = Publisher(services.tables, services.engine, {}, lambda _: None)
    publisher.publish(schema.name, schema.quarantine, validated)
    validated.discard()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
