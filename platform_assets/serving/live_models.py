"""Live models: the champions in memory, replaced within seconds after a promotion.

A `ChampionSource` names the version of each model, and `ArtefactStore` loads its file. One thread polls and loads.
Requests only read an attribute. If a version cannot be loaded, the previous one stays live. MLflow is not used.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger_errors import LedgerError
from platform_assets.base.errors import DatabaseError, NoChampion, PlatformError, first_line
from platform_assets.models.outputs import by_column
from platform_assets.serving.champion_source import BLIND_PACE_SECONDS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.serving.champion_source import Approved, ChampionSource

LOG = logging.getLogger(__name__)
PACE_SECONDS = 3.0
"""Poll interval while notifications work; a safety net for lost notifications."""
SWAP_SECONDS = 10.0
"""Longest time from a promotion until all processes of the service answer with the new version, if it can be loaded."""
LONGEST_PAUSE_SECONDS = 60.0
"""Longest pause between two attempts to load a model."""
_FIRST_PAUSE_SECONDS = 1.0
_GRACE_SECONDS = 5.0


@dataclass(frozen=True, eq=False)
class LiveModel:
    """A model version in memory. It is immutable, so that all scores of a request come from one version.

    Attributes
    ----------
    name, version, digest, threshold, approval_id, metrics, demo
        See `Approved`.
    model
        The fitted model in memory.
    loaded_at
        Time at which this process made the version live, with time zone.
    """

    name: str
    version: int
    digest: str
    threshold: float | None
    approval_id: int
    metrics: Mapping[str, float]
    demo: bool
    model: FittedModel
    loaded_at: datetime

    def is_of(self, approved: Approved) -> bool:
        """Return whether this is the approved version."""
        return (self.version, self.digest, self.threshold, self.approval_id) == (
            approved.version,
            approved.digest,
            approved.threshold,
            approved.approval_id,
        )

    def outputs(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return all output columns of each row, float64; see `FittedModel.outputs`."""
        from platform_assets.models.thread_limits import keep_to_one_thread

        keep_to_one_thread()
        return self.model.outputs_unlimited(rows)

    def scores(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return the main output column, (n,) float64; see `FittedModel.scores`."""
        found = self.outputs(rows)
        return found if found.ndim == 1 else found[:, 0]

    def predict(self, rows: Frame | Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
        """Return the output columns by name, (n,) float64 each; see `FittedModel.predict`."""
        return by_column(self.model.output, self.outputs(rows))


def load_model(source: ChampionSource, approved: Approved) -> LiveModel:
    """Load the approved version of a model.

    Raises
    ------
    ArtefactError
        The file cannot be loaded or was altered, or the threshold does not fit the model's task.
    """
    model = source.load(approved.digest)
    model.output.demand_threshold(approved.threshold)
    return LiveModel(
        name=approved.model,
        version=approved.version,
        digest=approved.digest,
        threshold=approved.threshold,
        approval_id=approved.approval_id,
        metrics=approved.metrics,
        demo=approved.demo,
        model=model,
        loaded_at=_now(),
    )


@dataclass(frozen=True)
class ModelState:
    """State of one model in this process.

    Attributes
    ----------
    live
        The live version; None if no version is live.
    looked_at
        Time of the last completed look-up of the champion, with time zone; None before the first.
    failure
        Reason why the champion cannot be looked up or loaded; None if there is no failure.
    failing_since
        Start of the failure, with time zone; None if there is no failure.
    reload_failures
        Failed attempts to load a champion.
    """

    live: LiveModel | None = None
    looked_at: datetime | None = None
    failure: str | None = None
    failing_since: datetime | None = None
    reload_failures: int = 0


class LiveModels:
    """The live models of this process.

    Parameters
    ----------
    source
        Source of the champions.
    """

    def __init__(self, source: ChampionSource) -> None:
        self._source = source
        # Values are immutable and replaced as a whole, so that readers need no lock.
        self._states: dict[str, ModelState] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, names: Collection[str]) -> None:
        """Start the thread that loads the champions of these models; return before they are loaded."""
        self.close()
        self._states = {name: self._states.get(name, ModelState()) for name in names}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=[self._stop], name="live-models", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread. Live models stay live. If a model is being loaded, wait for it for up to 5 s."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_GRACE_SECONDS)
            self._thread = None

    def live(self, name: str) -> LiveModel:
        """Return the live version of a model, from memory.

        Raises
        ------
        NoChampion
            There is no live version.
        """
        state = self._states.get(name)
        if state is None or state.live is None:
            raise NoChampion(name, _no_champion(name, state))
        return state.live

    def state(self) -> Mapping[str, ModelState]:
        """Return the state of each model, by name."""
        return dict(self._states)

    def _watch(self, stop: threading.Event) -> None:
        from platform_assets.models.fitted_model import import_libraries

        # Import the libraries before there is a champion, so that the first champion also goes live within seconds. A
        # missing library is reported when a model is loaded.
        with suppress(ImportError):
            import_libraries()
        try:
            while not stop.is_set():
                self._look()
                try:
                    self._source.wait(stop, self._pause())
                except Exception:
                    # Catch any error, because without this thread no promotion would be noticed.
                    LOG.exception("cannot wait for a promotion; polling instead")
                    stop.wait(BLIND_PACE_SECONDS)
        finally:
            self._source.close()

    def _look(self) -> None:
        for name in self._states:
            try:
                self._follow(name, self._source.champion(name))
            except (DatabaseError, LedgerError) as error:
                # Mark all models as failing, because all champions are looked up in the same database.
                for each in self._states:
                    self._fail(each, f"the champion cannot be looked up: {error}")
                return
            # Catch any error, because damaged evidence of one model must not affect the others.
            except Exception as error:  # noqa: BLE001
                self._fail(name, f"its champion cannot be read: {_told(error)}")

    def _pause(self) -> float:
        now = time.monotonic()
        return max(0.0, min([PACE_SECONDS, *(attempt.due - now for attempt in self._attempts.values())]))

    def _follow(self, name: str, approved: Approved | None) -> None:
        """Load the approved version, unless it is already live or a recent attempt failed."""
        live = self._states[name].live
        attempt = self._attempts.pop(name, None)
        if approved is None:
            if live is not None:
                LOG.error("%s: version %s is no longer live: the ledger has no champion", name, live.version)
            self._succeed(name, None)
        elif live is not None and live.is_of(approved):
            self._succeed(name, live)
        elif attempt is not None and attempt.approved == approved and time.monotonic() < attempt.due:
            self._attempts[name] = attempt
        else:
            self._load(name, approved, attempt)

    def _load(self, name: str, approved: Approved, attempt: _Attempt | None) -> None:
        try:
            live = self._loaded(approved)
        # Catch any error, because loading a file from another library version can raise any exception, and the previous
        # model must stay live.
        except Exception as error:  # noqa: BLE001
            again = attempt if attempt is not None and attempt.approved == approved else _Attempt(approved)
            self._attempts[name] = again.later()
            state = self._states[name]
            self._states[name] = replace(state, looked_at=_now(), reload_failures=state.reload_failures + 1)
            self._fail(name, f"version {approved.version} cannot be loaded: {_told(error)}")
        else:
            self._succeed(name, live)
            LOG.info("%s: version %s is live (approval request %s)", name, live.version, live.approval_id)

    def _loaded(self, approved: Approved) -> LiveModel:
        live = load_model(self._source, approved)
        # Score many rows and a single row before the version goes live, because the first call of each kind is slow.
        live.outputs(live.model.golden_rows)
        live.outputs(live.model.golden_rows.head(1))
        return live

    def _succeed(self, name: str, live: LiveModel | None) -> None:
        before = self._states[name]
        self._states[name] = replace(before, live=live, looked_at=_now(), failure=None, failing_since=None)
        if before.failure is not None:
            LOG.info("%s: recovered", name)

    def _fail(self, name: str, told: str) -> None:
        before = self._states[name]
        self._states[name] = replace(before, failure=told, failing_since=before.failing_since or _now())
        # Log each cause once, not at every poll.
        if before.failure != told:
            serving = f"version {before.live.version} stays live" if before.live else "no version is live"
            LOG.error("%s: %s; %s", name, told, serving)


@dataclass(frozen=True)
class _Attempt:
    """A version that could not be loaded, and the time of the next attempt."""

    approved: Approved
    pause: float = _FIRST_PAUSE_SECONDS / 2
    due: float = 0.0

    def later(self) -> _Attempt:
        pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)
        return replace(self, pause=pause, due=time.monotonic() + pause)


def _now() -> datetime:
    return datetime.now(UTC)


def how_to_get_a_champion(name: str) -> str:
    """Return the reason why a model has no champion, and the fix."""
    return (
        f"{name} has no champion, because no version was approved and promoted. Train the model, then approve the "
        "version on the page /approvals or with `platform-assets decide approve`. Dagster then launches the job "
        "promote_model, which promotes it. Dagster runs under `make up` and in the containers"
    )


def _no_champion(name: str, state: ModelState | None) -> str:
    if state is None:
        return f"this service does not serve the model {name}"
    if state.failure:
        return f"no version of {name} is live: {state.failure}"
    if state.looked_at is None:
        return f"{name} is still being loaded; try again in a few seconds"
    return how_to_get_a_champion(name)


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {first_line(error)}"
