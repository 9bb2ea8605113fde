"""Interface of the sources that name the version to serve: the ledger (`ledger_champions.py`) or a bundle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping

    from platform_assets.models.fitted_model import FittedModel

BLIND_PACE_SECONDS = 2.0
"""Poll interval without notifications."""


@dataclass(frozen=True)
class Approved:
    """The approved version of a model. This is the version to serve.

    Attributes
    ----------
    model, version
        Name and number of the registered version.
    digest
        Digest of the model's file.
    threshold
        Score from which a row is positive; None if the model makes no decisions.
    approval_id
        Number of the approval request.
    metrics
        Numeric metrics on the test set by name, as recorded in the request.
    demo
        Whether the model was trained on sample data.
    """

    model: str
    version: int
    digest: str
    threshold: float | None
    approval_id: int
    metrics: Mapping[str, float]
    demo: bool


class ChampionSource(Protocol):
    """Source of the champions: the versions to serve. Not thread-safe: only one thread may use it."""

    def champion(self, model: str) -> Approved | None:
        """Return the version to serve; None if there is no champion.

        Raises
        ------
        DatabaseError, LedgerError
            The source is unavailable.
        """
        ...

    def load(self, digest: str) -> FittedModel:
        """Load a model by the digest of its file.

        Raises
        ------
        ArtefactError
            The file cannot be loaded, or was altered.
        """
        ...

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait at most `seconds` for a champion to change; return soon after `stop` is set."""
        ...

    def close(self) -> None:
        """Close the connection, if there is one."""
        ...


def metrics_of(evidence: Mapping[str, Any]) -> dict[str, float]:
    """Return the numeric metrics of an approval request's evidence."""
    values = {name: estimate.get("value") for name, estimate in (evidence.get("metrics") or {}).items()}
    return {name: float(value) for name, value in values.items() if value is not None}
