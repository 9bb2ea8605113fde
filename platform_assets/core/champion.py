"""The live model of a name: the champion, in memory, replaced within seconds when the ledger names another one.

Which version is the champion, the ledger says (`ledger.py`); its file comes through the one loader
(`artefacts.py`). One thread looks and loads; whoever answers a request reads an attribute. What cannot be loaded
leaves the model that serves in its place. MLflow is not asked.
"""

from __future__ import annotations

import logging
import math
import select
import threading
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.core.errors import ArtefactError, PlatformError, first_line
from platform_assets.core.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    import numpy as np
    import psycopg
    from numpy.typing import NDArray

    from platform_assets.core.artefacts import FittedModel
    from platform_assets.core.frames import Frame
    from platform_assets.core.ledger import Promotion

LOG = logging.getLogger(__name__)
CHANNEL = "platform_champions"
"""Where the database says that a champion may be another one (migration 0003)."""
PACE_SECONDS = 3.0
"""Time between two looks while the database says what changes: should that be lost, nobody waits for long."""
BLIND_PACE_SECONDS = 2.0
"""The same while it cannot."""
LONGEST_PAUSE_SECONDS = 60.0
"""Between two attempts to load a model that cannot be loaded."""
_SLICE_SECONDS = 0.2


class NoChampion(PlatformError):  # noqa: N818 - says what it is
    """No version of a model can answer; what would open it is told.

    Attributes
    ----------
    model
        The model.
    """

    def __init__(self, model: str, told: str) -> None:
        super().__init__(told)
        self.model = model


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


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A model that answers. Never changed: an answer that is made of one is of one version.

    Attributes
    ----------
    name, version, digest, threshold, approval_id, metrics, demo
        As in `Approved`.
    model
        What scores.
    loaded_at
        Since when it answers here, with time zone.
    """

    name: str
    version: int
    digest: str
    threshold: float
    approval_id: int
    metrics: Mapping[str, float]
    demo: bool
    model: FittedModel
    loaded_at: datetime

    def scores(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Probability of the positive class, (n,) float64; see `FittedModel.scores`."""
        return self.model.scores(rows)


@dataclass(frozen=True)
class ModelState:
    """What is known of one model here.

    Attributes
    ----------
    live
        What answers; None while nothing does.
    looked_at
        When it was last known which version is the champion, with time zone; None before the first time.
    failure
        Why the champion cannot be loaded, or why nobody knows which it is; None while all is well.
    failing_since
        Since when, with time zone.
    reload_failures
        How often a champion could not be loaded.
    """

    live: LiveModel | None = None
    looked_at: datetime | None = None
    failure: str | None = None
    failing_since: datetime | None = None
    reload_failures: int = 0


class Announced(Protocol):
    """Where it is said which version of a model is to serve. Used by one thread."""

    def champion(self, model: str) -> Approved | None:
        """The version that is to serve; None where there is none.

        Raises
        ------
        PlatformError
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


class LiveModels:
    """The models that answer in this process.

    Parameters
    ----------
    announced
        Says which versions those are.
    """

    def __init__(self, announced: Announced) -> None:
        self._announced = announced
        # Replaced, never changed in place: whoever reads sees a whole one.
        self._states: dict[str, ModelState] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._told: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, names: Collection[str]) -> None:
        """Begin to look after these models, in a thread; returns at once."""
        self._states = {name: ModelState() for name in names}
        self._thread = threading.Thread(target=self._watch, name="live-models", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; what is live stays so."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def live(self, name: str) -> LiveModel:
        """What answers for a model at this moment; reads memory only.

        Raises
        ------
        NoChampion
            Nothing does.
        """
        state = self._states.get(name)
        if state is None or state.live is None:
            raise NoChampion(name, _no_champion(name, state))
        return state.live

    def state(self) -> Mapping[str, ModelState]:
        """What is known of each model, by name."""
        return dict(self._states)

    def _watch(self) -> None:
        from platform_assets.core.artefacts import import_libraries

        import_libraries()
        try:
            while not self._stop.is_set():
                self._announced.wait(self._stop, self._look())
        finally:
            self._announced.close()

    def _look(self) -> float:
        """Look once; seconds until the next time."""
        for name in self._states:
            try:
                self._follow(name, self._announced.champion(name))
            except PlatformError as error:
                self._fail(name, f"which version is the champion cannot be read: {error}")
            except Exception as error:  # noqa: BLE001 - whatever it is, the thread has to go on
                self._fail(name, f"looking for the champion failed ({type(error).__name__}: {first_line(error)})")
        due = [attempt.due for attempt in self._attempts.values()]
        return max(0.0, min([PACE_SECONDS, *(moment - time.monotonic() for moment in due)]))

    def _follow(self, name: str, approved: Approved | None) -> None:
        before = self._states[name]
        seen = replace(before, looked_at=datetime.now(UTC))
        if approved is None:
            self._attempts.pop(name, None)
            self._states[name] = replace(seen, live=None, failure=None, failing_since=None)
            return
        if before.live is not None and _same(before.live, approved):
            self._attempts.pop(name, None)
            self._well(name, seen)
            return
        self._states[name] = seen
        attempt = self._attempts.get(name)
        if attempt is None or attempt.approved != approved:
            attempt = _Attempt(approved)
        elif time.monotonic() < attempt.due:
            return
        try:
            live = self._loaded(approved)
        except Exception as error:  # noqa: BLE001 - a file of another version fails in any way, and the old model serves on
            self._attempts[name] = attempt.failed()
            self._states[name] = replace(seen, reload_failures=seen.reload_failures + 1)
            self._fail(name, f"version {approved.version} cannot be loaded: {_told(error)}")
            return
        self._attempts.pop(name, None)
        self._well(name, replace(seen, live=live))
        LOG.info("%s: version %s is live, by request %s", name, live.version, live.approval_id)

    def _loaded(self, approved: Approved) -> LiveModel:
        if not (math.isfinite(approved.threshold) and 0 <= approved.threshold <= 1):
            raise ArtefactError(f"its threshold is {approved.threshold}, which is no probability")
        model = self._announced.load(approved.digest)
        # The first answer is slow, and a single row takes another way than many.
        model.scores(model.golden_rows.head(1))
        return LiveModel(
            approved.model,
            approved.version,
            approved.digest,
            approved.threshold,
            approved.approval_id,
            approved.metrics,
            approved.demo,
            model,
            datetime.now(UTC),
        )

    def _well(self, name: str, state: ModelState) -> None:
        self._states[name] = replace(state, failure=None, failing_since=None)
        if self._told.pop(name, None) is not None:
            LOG.info("%s: all is well again", name)

    def _fail(self, name: str, told: str) -> None:
        state = self._states[name]
        self._states[name] = replace(state, failure=told, failing_since=state.failing_since or datetime.now(UTC))
        if self._told.get(name) != told:
            self._told[name] = told
            serving = f"version {state.live.version} answers on" if state.live else "nothing answers"
            LOG.error("%s: %s; %s", name, told, serving)


class LedgerChampions:
    """The champions that the ledger names, on a connection of its own that listens for changes.

    Parameters
    ----------
    connect
        Opens a connection to the platform's database, in autocommit.
    load
        Opens a model's file by its digest.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]], load: Callable[[str], FittedModel]) -> None:
        self._connect = connect
        self._load = load
        self._connection: psycopg.Connection[Any] | None = None
        self._known: dict[str, tuple[Promotion, Approved]] = {}

    def champion(self, model: str) -> Approved | None:
        """The version that is to serve; None before the first promotion.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        ledger = Ledger(lambda: nullcontext(self._listening()))
        promotion = ledger.champion(model)
        if promotion is None:
            return None
        known = self._known.get(model)
        if known is None or known[0] != promotion:
            known = self._known[model] = promotion, _approved(promotion, ledger.request(promotion.request_id).evidence)
        return known[1]

    def load(self, digest: str) -> FittedModel:
        """The model of a file.

        Raises
        ------
        ArtefactError
            It cannot be loaded, or is not what it was.
        """
        return self._load(digest)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Return when a champion may be another one, at the latest after some seconds, and soon once `stop` is set."""
        connection = self._connection
        if connection is None or connection.closed:
            stop.wait(min(seconds, BLIND_PACE_SECONDS))
            return
        end = time.monotonic() + seconds
        while not stop.is_set() and (left := end - time.monotonic()) > 0:
            if select.select([connection], [], [], min(left, _SLICE_SECONDS))[0] and self._notified(connection):
                return

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _listening(self) -> psycopg.Connection[Any]:
        if self._connection is None or self._connection.closed:
            connection = self._connect()
            # Before the first look: what changes after it is told.
            connection.execute(f"listen {CHANNEL}".encode())
            self._connection = connection
        return self._connection

    def _notified(self, connection: psycopg.Connection[Any]) -> bool:
        import psycopg

        try:
            return bool(list(connection.notifies(timeout=0)))
        except psycopg.Error:
            # Looking again opens another one.
            connection.close()
            return True


def metrics_of(evidence: Mapping[str, Any]) -> dict[str, float]:
    """The metrics that are numbers, of the evidence that whoever approved a version saw."""
    values = {name: estimate.get("value") for name, estimate in (evidence.get("metrics") or {}).items()}
    return {name: float(value) for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class _Attempt:
    """To load a champion that could not be loaded."""

    approved: Approved
    pause: float = 0.5
    due: float = 0.0

    def failed(self) -> _Attempt:
        pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)
        return replace(self, pause=pause, due=time.monotonic() + pause)


def _approved(promotion: Promotion, evidence: Mapping[str, Any]) -> Approved:
    return Approved(
        model=promotion.model,
        version=promotion.version,
        digest=promotion.digest,
        threshold=promotion.threshold,
        approval_id=promotion.request_id,
        metrics=metrics_of(evidence),
        demo=evidence.get("demo") is True,
    )


def _same(live: LiveModel, approved: Approved) -> bool:
    return (live.approval_id, live.digest, live.threshold) == (
        approved.approval_id,
        approved.digest,
        approved.threshold,
    )


def _no_champion(name: str, state: ModelState | None) -> str:
    if state is None:
        return f"{name} is not among the models that answer here"
    if state.failure:
        return f"no version of {name} answers: {state.failure}"
    if state.looked_at is None:
        return f"{name} is not loaded yet; ask again in a few seconds"
    return (
        f"{name} has no champion: no version was approved and promoted. Train it, then approve the version on the page "
        f"/approvals or by `platform-assets decide list`"
    )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {first_line(error)}"
