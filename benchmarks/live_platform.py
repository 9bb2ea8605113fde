"""A platform of its own with a champion, for measuring what it answers: tables, training, approval, key.

Everything goes the way it always goes, the real ledger and a person's approval included; only Dagster is left out.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from pydantic import SecretStr

from platform_assets.approval.requests import Actor, request_approval
from platform_assets.domains.credit_risk.features import loan_features, newest_per_client
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.domains.credit_risk.schemas import CLIENT_FEATURES, LOAN_FEATURES, LOANS
from platform_assets.domains.credit_risk.sources import read_loans
from platform_assets.services import Services, open_services
from platform_assets.settings import PREFIX, Settings
from platform_assets.training.proposal import proposal_of
from platform_assets.web.api_keys import Keys

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pandas as pd

    from platform_assets.approval.ledger_events import Promotion
    from platform_assets.base.frames import Expression
    from platform_assets.lake.schemas import TableSchema

LOANS_OF_A_CHAMPION = 20_000
"""With fewer, the gate fails by chance now and then."""


@dataclass(frozen=True)
class Live:
    """What there is to be asked.

    Attributes
    ----------
    services
        Of the platform.
    champion
        As the ledger says; None if the loans did not pass the gate, which the real ones do not.
    key
        Of a program that may read features and ask for predictions.
    """

    services: Services
    champion: Promotion | None
    key: str

    @cached_property
    def clients(self) -> pd.DataFrame:
        """The online table, (clients, columns of `CLIENT_FEATURES`), shuffled, always in the same order."""
        rows: pd.DataFrame = self.services.online.read(CLIENT_FEATURES.name).to_pandas()
        return rows.sort_values("client_id").sample(frac=1, random_state=1, ignore_index=True)

    @cached_property
    def numbers(self) -> list[int]:
        """Of the clients in that order."""
        return [int(number) for number in self.clients["client_id"]]

    @property
    def environment(self) -> dict[str, str]:
        """What a process of this platform needs; nothing of ours from outside."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return inherited | {"PLATFORM_HOME": str(self.services.settings.home)}


@contextmanager
def live_platform(home: Path) -> Iterator[Live]:
    """A platform below a folder that holds nothing yet, on the loans that are set or on demo loans."""
    settings = Settings(
        home=home,
        lake_uri="",
        sources="demo",
        demo_rows=LOANS_OF_A_CHAMPION,
        # Not a database that somebody works with.
        database_url=SecretStr(""),
        mlflow_tracking_uri=SecretStr(""),
    )
    services = open_services(settings)
    try:
        _publish_tables(services)
        keys = services.keys
        assert isinstance(keys, Keys)
        yield Live(services, _champion(services), keys.add("benchmark", "benchmark", {"read", "predict"}))
    finally:
        services.close()


def _publish_tables(services: Services) -> None:
    validated = services.validator.validate(LOANS, read_loans(services.sources, services.engine))
    services.tables.publish(LOANS.name, validated.table, metadata={"demo": validated.demo})
    demo = validated.demo
    validated.discard()
    features = loan_features(services.tables.scan(LOANS.name))
    _publish(services, LOAN_FEATURES, features, demo=demo)
    newest = newest_per_client(services.tables.scan(LOAN_FEATURES.name))
    _publish(services, CLIENT_FEATURES, newest, demo=demo)


def _publish(services: Services, schema: TableSchema, rows: Expression, *, demo: bool) -> None:
    validated = services.validator.validate(schema, rows)
    if schema.store == "online":
        services.online.publish(schema.name, validated.table, schema.key)
    else:
        services.tables.publish(schema.name, validated.table, metadata={"demo": demo})
    validated.discard()


def _champion(services: Services) -> Promotion | None:
    training = services.trainer.train(MODEL, "user", lambda _: None)
    request = request_approval(services.ledger, proposal_of(MODEL, training))
    assert request is not None
    if not request.passed:
        return None
    person = Actor("benchmark", services.keys.add("approver", "benchmark", {"approve"}))
    services.ledger.decide(request.id, "approve", person, "measured, and shown to nobody")
    return services.promoter.promote(request.id)
