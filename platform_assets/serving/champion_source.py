"""Where it is said which version of a model is to serve: what every such place offers.

The ledger is one (`ledger_champions.py`), an exported bundle another (`bundles.py`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from platform_assets.models.fitted_model import FittedModel

BLIND_PACE_SECONDS = 2.0
"""Time between two looks while nothing tells of changes."""


@dataclass(frozen=True)
class Approved:
    """The version of a model that is to serve, as it was approved.

    Attributes
    ----------
    model, version, digest, threshold
        The registered version, its file, and the score from which a row counts as positive.
    approval_id
        Number of the request in the ledger.
    metrics
        Of the holdout, by name, as frozen with the approval; those that are numbers.
    demo
        Whether it was trained on sample data.
    """

    model: str
    version: int
    digest: str
    threshold: float
    approval_id: int
    metrics: Mapping[str, float]
    demo: bool


class ChampionSource(Protocol):
    """Where it is said which version of a model is to serve. Used by one thread."""

    def champion(self, model: str) -> Approved | None:
        """The version that is to serve; None where there is none.

        Raises
        ------
        DatabaseError, LedgerError
            Nobody can say at the moment.
        """
        ...

    def load(self, digest: str) -> FittedModel:
        """The model of a file.

        Raises
        ------
        ArtefactError
            It cannot be loaded, or is not what it was.
        """
        ...

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Return when a champion may be another one, at the latest after some seconds, and soon once `stop` is set."""
        ...

    def close(self) -> None:
        """Let go of what is open."""
        ...


def metrics_of(evidence: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are numbers, of the evidence that whoever approved a version saw."""
    values = {name: estimate.get("value") for name, estimate in (evidence.get("metrics") or {}).items()}
    return {name: float(value) for name, value in values.items() if value is not None}
