"""The live model of a name: the champion, in memory, replaced within seconds when there is another one.

A source says which version that is (`champion_source.py`); its file comes through the one loader (`artefact_store.py`).
One thread looks and loads; whoever answers a request reads an attribute. What cannot be loaded leaves the model that
serves in its place. MLflow is not asked.
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
from platform_assets.base.errors import ArtefactError, DatabaseError, NoChampion, PlatformError, first_line
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
"""Time between two looks while the source tells of changes: should that be lost, nobody waits for long."""
LONGEST_PAUSE_SECONDS = 60.0
"""Between two attempts to load a model that cannot be loaded."""
_FIRST_PAUSE_SECONDS = 1.0
_GRACE_SECONDS = 5.0


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

    def is_of(self, approved: Approved) -> bool:
        """Whether this is what was approved."""
        return (self.version, self.digest, self.threshold, self.approval_id) == (
            approved.version,
            approved.digest,
            approved.threshold,
            approved.approval_id,
        )

    def scores(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Probability of the positive class, (n,) float64; see `FittedModel.scores`."""
        from platform_assets.models.thread_limits import keep_to_one_thread

        keep_to_one_thread()
        return self.model.scores_unlimited(rows)


@dataclass(frozen=True)
class ModelState:
    """What is known of one model here.

    Attributes
    ----------
    live
        What answers; None while nothing does.
    looked_at
        When it was last known which version is the champion, and that was loaded or failed to; with time zone, None
        before the first time.
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


class LiveModels:
    """The models that answer in this process.

    Parameters
    ----------
    source
        Says which versions those are.
    """

    def __init__(self, source: ChampionSource) -> None:
        self._source = source
        # Their values are replaced and never changed: whoever reads one has a whole one.
        self._states: dict[str, ModelState] = {}
        self._attempts: dict[str, _Attempt] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, names: Collection[str]) -> None:
        """Begin to look after these models, in a thread, which also imports what that takes; returns at once."""
        self.close()
        self._states = {name: self._states.get(name, ModelState()) for name in names}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, args=[self._stop], name="live-models", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop looking; what is live stays so. A load that is on its way is not waited for long."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_GRACE_SECONDS)
            self._thread = None

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

    def _watch(self, stop: threading.Event) -> None:
        from platform_assets.models.fitted_model import import_libraries

        # Also where nothing is to be loaded yet: the first champion has to be there within seconds as well. What is
        # missing is told by whoever loads a model.
        with suppress(ImportError):
            import_libraries()
        try:
            while not stop.is_set():
                self._look()
                try:
                    self._source.wait(stop, self._pause())
                except Exception:
                    # Whatever it is, the thread has to go on: without it no change would ever be noticed.
                    LOG.exception("waiting for another champion failed; looking again")
                    stop.wait(BLIND_PACE_SECONDS)
        finally:
            self._source.close()

    def _look(self) -> None:
        for name in self._states:
            try:
                self._follow(name, self._source.champion(name))
            except (DatabaseError, LedgerError) as error:
                # The others would wait for the same in vain.
                for each in self._states:
                    self._fail(each, f"nobody knows at the moment which version is the champion: {error}")
                return
            # One model's damaged evidence must not keep the others from being followed.
            except Exception as error:  # noqa: BLE001
                self._fail(name, f"its champion cannot be read: {_told(error)}")

    def _pause(self) -> float:
        now = time.monotonic()
        return max(0.0, min([PACE_SECONDS, *(attempt.due - now for attempt in self._attempts.values())]))

    def _follow(self, name: str, approved: Approved | None) -> None:
        """Make an approved version the live one, unless it is, or was tried in vain a moment ago."""
        live = self._states[name].live
        attempt = self._attempts.pop(name, None)
        if approved is None:
            if live is not None:
                LOG.error("%s: version %s answers no more: the ledger knows of no champion", name, live.version)
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
        # A file of another version fails in any way, and whatever happens here, the old model has to go on.
        except Exception as error:  # noqa: BLE001
            again = attempt if attempt is not None and attempt.approved == approved else _Attempt(approved)
            self._attempts[name] = again.later()
            state = self._states[name]
            self._states[name] = replace(state, looked_at=_now(), reload_failures=state.reload_failures + 1)
            self._fail(name, f"version {approved.version} cannot be loaded: {_told(error)}")
        else:
            self._succeed(name, live)
            LOG.info("%s: version %s is live, by request %s", name, live.version, live.approval_id)

    def _loaded(self, approved: Approved) -> LiveModel:
        if not 0 <= approved.threshold <= 1:
            raise ArtefactError(f"its threshold is {approved.threshold}, which is no probability")
        model = self._source.load(approved.digest)
        live = LiveModel(
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
        # Whatever is done for the first answer alone is done now, and for a single row as well.
        live.scores(model.golden_rows)
        live.scores(model.golden_rows.head(1))
        return live

    def _succeed(self, name: str, live: LiveModel | None) -> None:
        before = self._states[name]
        self._states[name] = replace(before, live=live, looked_at=_now(), failure=None, failing_since=None)
        if before.failure is not None:
            LOG.info("%s: all is well again", name)

    def _fail(self, name: str, told: str) -> None:
        before = self._states[name]
        self._states[name] = replace(before, failure=told, failing_since=before.failing_since or _now())
        # Once for each cause, and not at every look.
        if before.failure != told:
            serving = f"version {before.live.version} answers on" if before.live else "nothing answers"
            LOG.error("%s: %s; %s", name, told, serving)


@dataclass(frozen=True)
class _Attempt:
    """A version that could not be loaded, and when to try again."""

    approved: Approved
    pause: float = _FIRST_PAUSE_SECONDS / 2
    due: float = 0.0

    def later(self) -> _Attempt:
        pause = min(2 * self.pause, LONGEST_PAUSE_SECONDS)
        return replace(self, pause=pause, due=time.monotonic() + pause)


def _now() -> datetime:
    return datetime.now(UTC)


def _no_champion(name: str, state: ModelState | None) -> str:
    if state is None:
        return f"{name} is not among the models that answer here"
    if state.failure:
        return f"no version of {name} answers: {state.failure}"
    if state.looked_at is None:
        return f"{name} is not loaded yet; ask again in a few seconds"
    return (
        f"{name} has no champion: no version was approved and promoted. Train it, then approve the version on the page "
        "/approvals or by `platform-assets decide list`; the job promote_model, which `make up` launches, does the rest"
    )


def _told(error: Exception) -> str:
    return str(error) if isinstance(error, PlatformError) else f"{type(error).__name__}: {first_line(error)}"
