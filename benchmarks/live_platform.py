"""A platform with tables, a champion and an API key, for benchmarks of the service.

All steps, including the approval in the ledger, are executed by the platform's own code, but without Dagster.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, replace
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
    from platform_assets.training.model_spec import ModelSpec

LOANS_OF_A_CHAMPION = 20_000
"""Number of demo loans from which a champion is trained. With fewer loans, the model sometimes fails its gate."""


@dataclass(frozen=True)
class Live:
    """The platform that a benchmark uses.

    Attributes
    ----------
    services
        Services of the platform.
    champion
        Champion according to the ledger; None if the model failed the gate, which happens with the real loans.
    key
        API key with the scopes `read` and `predict`.
    """

    services: Services
    champion: Promotion | None
    key: str

    @cached_property
    def clients(self) -> pd.DataFrame:
        """Rows of the online table, (clients, columns of `CLIENT_FEATURES`), in a random but fixed order."""
        rows: pd.DataFrame = self.services.online.read(CLIENT_FEATURES.name).to_pandas()
        return rows.sort_values("client_id").sample(frac=1, random_state=1, ignore_index=True)

    @cached_property
    def numbers(self) -> list[int]:
        """Ids of the clients, in the order of `clients`."""
        return [int(number) for number in self.clients["client_id"]]

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables for a process of this platform. No other PLATFORM_ variables are passed on."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        return inherited | {"PLATFORM_HOME": str(self.services.settings.home)}


@contextmanager
def live_platform(home: Path, candidate: str = "") -> Iterator[Live]:
    """Create a platform in an empty folder, with the loans in PLATFORM_CREDIT_LOANS_URI, or demo loans if it is unset.

    Parameters
    ----------
    home
        Empty folder, which becomes the home of the platform.
    candidate
        Name of the model's candidate to train; empty to train all candidates and choose the best.
    """
    settings = Settings(
        home=home,
        lake_uri="",
        sources="demo",
        demo_rows=LOANS_OF_A_CHAMPION,
        # An empty URL selects the embedded server. The benchmark must not change the configured database.
        database_url=SecretStr(""),
        mlflow_tracking_uri=SecretStr(""),
    )
    services = open_services(settings)
    try:
        _publish_tables(services)
        keys = services.keys
        assert isinstance(keys, Keys)
        chosen = tuple(one for one in MODEL.candidates if candidate in {"", one.name})
        champion = crown(services, replace(MODEL, candidates=chosen))
        yield Live(services, champion, keys.add("benchmark", "benchmark", {"read", "predict"}))
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


def crown(services: Services, spec: ModelSpec) -> Promotion | None:
    """Train, approve and promote a model; return None if it failed the gate."""
    training = services.trainer.train(spec, "user", lambda _: None)
    request = request_approval(services.ledger, proposal_of(spec, training))
    assert request is not None
    if not request.passed:
        return None
    person = Actor("benchmark", services.keys.add("approver", "benchmark", {"approve"}))
    services.ledger.decide(request.id, "approve", person, "for a benchmark only")
    return services.promoter.promote(request.id)
