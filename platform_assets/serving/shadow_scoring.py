"""Score the champion's requests with a second version, the shadow, without delaying answers.

A request only puts its rows into a bounded queue. One thread scores the queue in small parts and pauses after each
part, so that it uses about a tenth of a processor. If the queue is full, rows are dropped and counted. The thread also
loads the version, writes the scores to their own tables (`shadow_store.py`), and records reports. Its failures are
counted and logged, and never affect a request. Each process of the service scores its own requests.
"""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError, PlatformError, first_line
from platform_assets.serving.shadow_rows import Losses, ShadowRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.approval.shadows import Shadow
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.serving.live_models import LiveModel
    from platform_assets.serving.prediction_log import Predictions
    from platform_assets.serving.shadow_rows import ShadowStore

LOG = logging.getLogger(__name__)
CAPACITY = 10_000
"""Maximum length of the queue, in rows."""
ROWS_AT_ONCE = 16
"""Number of rows that are scored together. A larger number would hold Python's GIL for longer."""
PAUSE_PER_SECOND = 9.0
"""Seconds of pause after each second of scoring."""
PACE_SECONDS = 0.5
"""Pause between two steps of the thread."""
LOOK_SECONDS = 3.0
"""Time between two look-ups of the running shadows."""
REPORT_SECONDS = 15.0
"""Time between two checks whether a report is due."""
LOSSES_SECONDS = 30.0
"""Time between two writes of the counts of rows that were not scored."""
RETRY_SECONDS = 60.0
"""Time between two attempts to load a version."""
_GRACE_SECONDS = 5.0
_STEP_SECONDS = 2.0


@dataclass(eq=False)
class ShadowState:
    """A running shadow in this process.

    Attributes
    ----------
    shadow
        The shadow, as the ledger records it.
    model
        The loaded version; None while it is not loaded.
    failure
        Why the version could not be loaded or could not score the most recent row; None if it could.
    has_failed
        Whether a row could not be scored.
    due
        Time of the next attempt to load the version, by the monotonic clock.
    """

    shadow: Shadow
    model: FittedModel | None = None
    failure: str | None = None
    has_failed: bool = False
    due: float = 0.0


@dataclass
class ShadowCounts:
    """Numbers of rows that a model's shadows scored, dropped, or failed to score since the service started."""

    scored: int = 0
    dropped: int = 0
    failed: int = 0


@dataclass(frozen=True, slots=True)
class _Row:
    state: ShadowState
    live: LiveModel
    predictions: Predictions
    item: int
    features: Mapping[str, Any]


@dataclass
class _Unwritten:
    batch: uuid.UUID = field(default_factory=uuid.uuid4)
    rows: list[ShadowRow] = field(default_factory=list)


class Shadows:
    """Scores requests with the running shadows, in a thread of this process.

    Parameters
    ----------
    store
        Source of the shadows and destination of their scores.
    load
        Function that loads a model by the digest of its file.
    capacity
        Maximum length of the queue, in rows.
    look_seconds
        Time between two look-ups of the running shadows.
    """

    def __init__(
        self,
        store: ShadowStore,
        load: Callable[[str], FittedModel],
        capacity: int = CAPACITY,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._store = store
        self._load = load
        self._capacity = capacity
        self._look_seconds = look_seconds
        # This mapping is replaced as a whole, so that requests need no lock to look up a shadow.
        self._states: dict[str, ShadowState] = {}
        self._counts: dict[str, ShadowCounts] = {}
        self._lock = threading.Lock()
        # Requests append to this queue, and the thread takes from it.
        self._waiting: deque[tuple[ShadowState, LiveModel, Predictions, Sequence[Mapping[str, Any]]]] = deque()
        self._taken: deque[_Row] = deque()
        self._queued = 0
        self._losses: dict[Shadow, Losses] = {}
        self._unwritten = _Unwritten()
        self._dues: dict[str, float] = {}
        self._told: dict[str, str] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def queued(self) -> int:
        """Rows in the queue."""
        return self._queued

    def state(self) -> Mapping[str, ShadowState]:
        """Return the running shadows by model."""
        return dict(self._states)

    def counts(self) -> Mapping[str, ShadowCounts]:
        """Return the counts by model."""
        return dict(self._counts)

    def start(self) -> None:
        """Start the thread; return at once."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="shadows", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Write the scores and stop the thread; wait up to 5 s. A version that is still scoring is not interrupted."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_GRACE_SECONDS)

    def offer(self, live: LiveModel, predictions: Predictions, rows: Sequence[Mapping[str, Any]]) -> None:
        """Queue the rows of a request for the shadow of its model, if one is running; return at once.

        Parameters
        ----------
        live
            The champion that answered.
        predictions
            The predictions that the champion made.
        rows
            (n,) the rows that it scored.
        """
        state = self._states.get(predictions.model)
        if state is None or state.shadow.champion_digest != live.digest or predictions.at >= state.shadow.until:
            return
        number = len(predictions)
        with self._lock:
            if state.model is None or self._queued + number > self._capacity:
                self._lose(state, dropped=number)
            else:
                self._queued += number
                self._waiting.append((state, live, predictions, rows))

    def _lose(self, state: ShadowState, dropped: int = 0, failed: int = 0) -> None:
        """Count rows that are not scored. The caller holds the lock."""
        counts = self._counts[state.shadow.model]
        counts.dropped += dropped
        counts.failed += failed
        losses = self._losses.setdefault(state.shadow, Losses())
        losses.dropped += dropped
        losses.failed += failed
        losses.reason = state.failure or losses.reason

    def _run(self) -> None:
        try:
            while not self._stop.wait(PACE_SECONDS):
                self.step()
            self._end()
        finally:
            self._store.close()

    def step(self) -> None:
        """Do the work that is due: update the running shadows, score the queue, write the scores, record reports."""
        self._every("look", self._look_seconds, self._look)
        self._every("score", 0.0, self._score)
        self._every("write", 0.0, self._write)
        self._every("report", REPORT_SECONDS, self._store.report)

    def _end(self) -> None:
        self._take(math.inf)
        with self._lock:
            for row in self._taken:
                self._lose(row.state, dropped=1)
            self._taken.clear()
            self._queued = 0
        self._dues.clear()
        self._every("write", 0.0, self._write)

    def _every(self, name: str, seconds: float, work: Callable[[], None]) -> None:
        """Run the task `name` if it is due. Log an error once and do not raise it, because the thread must go on."""
        now = time.monotonic()
        if now < self._dues.get(name, 0.0):
            return
        self._dues[name] = now + seconds
        try:
            work()
        except Exception as error:  # noqa: BLE001 - the next attempt may succeed
            told = _told(error)
            if self._told.get(name) != told:
                self._told[name] = told
                LOG.warning("shadows: the task `%s` failed and will be retried: %s", name, told)
        else:
            self._told.pop(name, None)

    def _look(self) -> None:
        """Update the list of running shadows, and load their versions."""
        states: dict[str, ShadowState] = {}
        for shadow in self._store.running():
            known = self._states.get(shadow.model)
            is_known = known is not None and known.shadow.started == shadow.started
            states[shadow.model] = known if known is not None and is_known else ShadowState(shadow)
            self._counts.setdefault(shadow.model, ShadowCounts())
        for model in self._states.keys() - states.keys():
            LOG.info("%s ended", self._states[model].shadow.called)
        self._states = states
        for state in states.values():
            if state.model is None and time.monotonic() >= state.due:
                self._load_version(state)

    def _load_version(self, state: ShadowState) -> None:
        shadow = state.shadow
        try:
            model = self._load(shadow.digest)
            model.output.demand_threshold(shadow.threshold)
            _outputs(model, model.golden_rows.head(ROWS_AT_ONCE))
        except Exception as error:  # noqa: BLE001 - a file of another library version may raise anything
            state.due = time.monotonic() + RETRY_SECONDS
            if state.failure is None:
                LOG.warning("%s cannot be loaded: %s", shadow.called, _told(error))
            state.failure = f"the version cannot be loaded: {_told(error)}"
        else:
            state.model, state.failure = model, None
            LOG.info("%s scores the champion's requests until %s", shadow.called, shadow.until)

    def _score(self) -> None:
        """Score the queue for some seconds, with a pause after each part."""
        end = time.monotonic() + _STEP_SECONDS
        while not self._stop.is_set() and time.monotonic() < end and len(self._unwritten.rows) < self._capacity:
            rows = self._next()
            if not rows:
                return
            began = time.perf_counter()
            self._score_part(rows)
            self._stop.wait(PAUSE_PER_SECOND * (time.perf_counter() - began))

    def _next(self) -> list[_Row]:
        """Take rows for one shadow from the queue; the rows can be from several requests."""
        # Take the rows without the lock, because taking many rows would keep requests waiting.
        self._take(ROWS_AT_ONCE)
        rows: list[_Row] = []
        while self._taken and len(rows) < ROWS_AT_ONCE and (not rows or self._taken[0].state is rows[0].state):
            rows.append(self._taken.popleft())
        with self._lock:
            self._queued -= len(rows)
        return rows

    def _take(self, enough: float) -> None:
        while self._waiting and len(self._taken) < enough:
            state, live, predictions, given = self._waiting.popleft()
            self._taken.extend(_Row(state, live, predictions, item, one) for item, one in enumerate(given))

    def _score_part(self, rows: Sequence[_Row]) -> None:
        state = rows[0].state
        try:
            scored = _compared(state, rows)
        except Exception as error:  # noqa: BLE001 - a shadow version may raise anything
            if len(rows) > 1:
                # Score each row alone, so that only rows that fail are lost.
                for row in rows:
                    self._score_part([row])
                return
            # Keep only the part before the colon, because the rest could contain a value of the row.
            failure = f"the version cannot score a row: {_told(error).partition(': ')[0]}"
            if not state.has_failed:
                LOG.warning("%s: %s", state.shadow.called, failure)
            with self._lock:
                state.failure, state.has_failed = failure, True
                self._lose(state, failed=1)
        else:
            state.failure = None
            self._unwritten.rows += scored
            self._counts[state.shadow.model].scored += len(scored)

    def _write(self) -> None:
        """Write the scores and, every `LOSSES_SECONDS`, the counts of rows that were not scored.

        If writing fails, both are kept for the next attempt.
        """
        now, losses = time.monotonic(), {}
        with self._lock:
            if now >= self._dues.get("losses", 0.0) and self._losses:
                losses, self._losses = self._losses, {}
                self._dues["losses"] = now + LOSSES_SECONDS
        if not self._unwritten.rows and not losses:
            return
        try:
            self._store.write(self._unwritten.batch, self._unwritten.rows, losses)
        except Exception:
            with self._lock:
                for shadow, lost in losses.items():
                    kept = self._losses.setdefault(shadow, Losses(reason=lost.reason))
                    kept.dropped += lost.dropped
                    kept.failed += lost.failed
            raise
        self._unwritten = _Unwritten()


def _compared(state: ShadowState, rows: Sequence[_Row]) -> list[ShadowRow]:
    """Score rows with the shadow and compare each score with the champion's prediction."""
    import numpy as np

    shadow, model = state.shadow, state.model
    assert model is not None  # noqa: S101 - rows are queued only for a loaded version
    for row in rows:
        if row.live.model.output.name != model.output.name:
            raise ArtefactError(f"its task is {model.output.name}, but the champion's is {row.live.model.output.name}")
    found = _outputs(model, [row.features for row in rows])
    if not np.isfinite(found).all():
        raise ArtefactError("a score is not a finite number")
    main = found if found.ndim == 1 else found[:, 0]
    champion = np.array([row.predictions.scores[row.item] for row in rows])
    decided = [row.predictions.threshold for row in rows]
    agrees = model.output.agrees(found, shadow.threshold, champion, decided)
    return [
        ShadowRow(
            shadow=shadow,
            at=row.predictions.at,
            request_id=row.predictions.request_id,
            item=row.item,
            subject=row.predictions.subjects[row.item],
            score=float(score),
            champion_score=float(other),
            agrees=bool(agreeing),
        )
        for row, score, other, agreeing in zip(rows, main, champion, agrees, strict=True)
    ]


def _outputs(model: FittedModel, rows: Any) -> NDArray[np.float64]:
    from platform_assets.models.thread_limits import keep_to_one_thread

    keep_to_one_thread()
    return model.outputs_unlimited(rows)


def _told(error: Exception) -> str:
    """Return the message of a `PlatformError`. Of other errors, return only the type: messages may contain values."""
    return first_line(error) if isinstance(error, PlatformError) else type(error).__name__
