"""The run report: materialise every asset in this process and collect the outcome of each.

The command `run` uses it. The UI and the schedules launch runs through Dagster.
"""

import logging
import re
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg
from dagster._utils.error import SerializableErrorInfo  # type: ignore[attr-defined]  # Dagster does not export it

from platform_assets.serving.assets import WAITS
from platform_assets.training.metadata import APPROVAL, VERDICT

State = Literal["waiting", "running", "done", "failed", "skipped"]
UNKNOWN = "no reason was recorded"
INTERRUPTED = "interrupted; run again"
INTERRUPTIONS = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})
DUCKDB_INTERRUPTION = "RuntimeError: Query interrupted"
QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass
class Outcome:
    """The outcome of one asset.

    Attributes
    ----------
    asset
        Its key, `<domain>/<name>`.
    state
        Its state.
    rows
        Rows of the table; None for other assets.
    seconds
        Duration of its step.
    passed, failed
        Names of its checks by result.
    blocked
        Whether a failed check prevented its publication.
    quarantined
        Number of quarantined rows; None for a table without a quarantine.
    quarantined_by
        Number of quarantined rows by check.
    demo
        Whether the rows come from demo data.
    verdict
        Result of the quality gate, for a model.
    approval
        State of the approval request, for a model.
    waits
        What waits and why, for stored predictions; empty if nothing does.
    reason
        Why it failed or was skipped.
    """

    asset: str
    state: State = "waiting"
    rows: int | None = None
    seconds: float = 0.0
    passed: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    blocked: bool = False
    quarantined: int | None = None
    quarantined_by: dict[str, int] = field(default_factory=dict)
    demo: bool = False
    verdict: str = ""
    approval: str = ""
    waits: str = ""
    reason: str = ""
    started: float = 0.0


@dataclass
class Report:
    """The outcomes of all assets, in the order of the graph."""

    outcomes: list[Outcome]
    run_id: str = ""
    interrupted: bool = False

    @property
    def complete(self) -> bool:
        """Whether every asset was materialised and no blocking check failed."""
        return all(outcome.state == "done" and not outcome.blocked for outcome in self.outcomes)


def materialise_all(
    definitions: dg.Definitions,
    instance: dg.DagsterInstance,
    progress: Callable[[Outcome], None],
    tell: Callable[[str], None] = lambda _: None,
) -> Report:
    """Materialise every asset. A failure skips only the assets that depend on it.

    Parameters
    ----------
    definitions
        The code location.
    instance
        Dagster's instance, which records the run.
    progress
        Called when an asset begins and when it ends.
    tell
        Called with each message that an asset logs at level INFO.
    """
    job = definitions.resolve_implicit_global_asset_job_def()
    recorder = _Recorder(job, progress, tell)
    run_id = str(uuid.uuid4())
    instance.add_event_listener(run_id, recorder)
    try:
        job.execute_in_process(
            instance=instance,
            raise_on_error=False,
            run_id=run_id,
            run_config=QUIET,
            # Pass the default selection explicitly, so that the UI lists the assets beside the run.
            asset_selection=recorder.assets,
        )
    except _database_errors() as error:
        recorder.history_is_lost(error)
    except KeyboardInterrupt:
        recorder.run_failure = INTERRUPTED
    return Report(recorder.finished(), run_id, interrupted=recorder.run_failure == INTERRUPTED)


class _Recorder:
    """Collects outcomes from a run's events."""

    def __init__(self, job: dg.JobDefinition, progress: Callable[[Outcome], None], tell: Callable[[str], None]) -> None:
        graph = job.asset_layer.asset_graph
        self._nodes = {key: graph.get(key) for key in graph.toposorted_asset_keys if graph.get(key).is_materializable}
        # The asset of each step that evaluates checks: a step of the check's own, or the asset's step.
        self._checked = {graph.assets_def_for_key(key).node_def.name: key.asset_key for key in graph.asset_check_keys}
        self._outcomes = {key: Outcome(key.to_user_string()) for key in self._nodes}
        self._progress = progress
        self._tell = tell
        self.run_failure = ""

    def __call__(self, entry: dg.EventLogEntry) -> None:
        event = entry.dagster_event
        if event is None:
            if entry.level == logging.INFO:
                self._tell(entry.user_message)
            return
        if event.event_type == dg.DagsterEventType.RUN_FAILURE:
            self.run_failure = _reason(event.job_failure_data.error)
        for outcome in self._outcomes_of(event):
            self._record(outcome, event, entry.timestamp)
        if event.is_step_failure and _innermost(event.step_failure_data.error) == DUCKDB_INTERRUPTION:
            # Stop the run, because DuckDB turns Ctrl-C into an ordinary error, after which Dagster would start the
            # next asset.
            raise KeyboardInterrupt

    @property
    def assets(self) -> list[dg.AssetKey]:
        """The assets to materialise."""
        return list(self._nodes)

    def history_is_lost(self, error: Exception) -> None:
        """Record that Dagster stopped because it could not store any more events."""
        reason = str(error.__cause__ or error).splitlines()[0]
        self.run_failure = (
            f"PostgreSQL, which stores the run history, became unreachable ({reason}). Tables published before that "
            "stay. Find the problem with `platform-assets doctor`, fix it, and run again"
        )

    def finished(self) -> list[Outcome]:
        """Return the outcomes after the end of the run."""
        for key, outcome in self._outcomes.items():
            if outcome.state == "running":
                outcome.state, outcome.reason = "failed", self.run_failure
                self._progress(outcome)
            if outcome.state == "waiting":
                missing = [
                    parent.to_user_string()
                    for parent in self._nodes[key].parent_keys
                    if parent in self._outcomes and self._outcomes[parent].state != "done"
                ]
                outcome.state = "skipped"
                outcome.reason = (
                    f"needs {', '.join(missing)}" if missing else f"the run ended early: {self.run_failure}"
                )
                self._progress(outcome)
        return list(self._outcomes.values())

    def _outcomes_of(self, event: dg.DagsterEvent) -> list[Outcome]:
        match event.event_type:
            case dg.DagsterEventType.STEP_START | dg.DagsterEventType.STEP_SUCCESS | dg.DagsterEventType.STEP_FAILURE:
                keys = [key for key in self._nodes if self._nodes[key].assets_def.node_def.name == event.step_key]
                keys = keys or self._checks_not_made(event)
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                keys = [event.asset_check_evaluation_data.asset_key]
            case dg.DagsterEventType.ASSET_MATERIALIZATION if event.asset_key:
                keys = [event.asset_key]
            case _:
                keys = []
        return [self._outcomes[key] for key in keys if key in self._outcomes]

    def _checks_not_made(self, event: dg.DagsterEvent) -> list[dg.AssetKey]:
        """Return the asset of a check that raised an error instead of returning a result."""
        key = self._checked.get(event.step_key or "")
        # Skip a blocking check that returned a negative result, because its step fails too.
        return [key] if key in self._outcomes and event.is_step_failure and not self._outcomes[key].blocked else []

    def _record(self, outcome: Outcome, event: dg.DagsterEvent, timestamp: float) -> None:
        match event.event_type:
            case dg.DagsterEventType.STEP_START:
                outcome.state, outcome.started = "running", timestamp
            case dg.DagsterEventType.STEP_SUCCESS:
                outcome.state, outcome.seconds = "done", timestamp - outcome.started
            case dg.DagsterEventType.STEP_FAILURE:
                outcome.state, outcome.seconds = "failed", outcome.seconds or timestamp - outcome.started
                outcome.reason = _reason(event.step_failure_data.error)
            case dg.DagsterEventType.ASSET_CHECK_EVALUATION:
                evaluation = event.asset_check_evaluation_data
                (outcome.passed if evaluation.passed else outcome.failed).append(evaluation.check_name)
                outcome.blocked |= bool(evaluation.blocking and not evaluation.passed)
                return
            case dg.DagsterEventType.ASSET_MATERIALIZATION:
                metadata = event.step_materialization_data.materialization.metadata
                outcome.rows = _number(metadata, "dagster/row_count")
                outcome.quarantined = _number(metadata, "quarantined_rows")
                outcome.quarantined_by = _numbers(metadata, "quarantined_by_rule")
                outcome.demo = "demo" in metadata and bool(metadata["demo"].value)
                outcome.verdict = str(metadata[VERDICT].value) if VERDICT in metadata else ""
                outcome.approval = str(metadata[APPROVAL].value) if APPROVAL in metadata else ""
                outcome.waits = str(metadata[WAITS].value) if WAITS in metadata else ""
                return
            case _:
                return
        self._progress(outcome)


def _database_errors() -> tuple[type[Exception], ...]:
    from dagster_postgres.utils import DagsterPostgresException
    from sqlalchemy.exc import InterfaceError, OperationalError

    return DagsterPostgresException, InterfaceError, OperationalError


def _number(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> int | None:
    return int(metadata[name].value) if name in metadata else None


def _numbers(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> dict[str, int]:
    value: Any = metadata[name].value if name in metadata else {}
    return {key: int(number) for key, number in value.items()}


def _innermost(error: SerializableErrorInfo | None) -> str:
    """Return the message of the error's first cause."""
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else ""


def _reason(error: SerializableErrorInfo | None) -> str:
    """Return why a step failed, without the names of exception classes."""
    text = _innermost(error)
    if text == DUCKDB_INTERRUPTION or text.split(":")[0].rpartition(".")[2] in INTERRUPTIONS:
        return INTERRUPTED
    return re.sub(r"^(dagster\._core\.definitions\.events\.Failure|platform_assets\.[\w.]+): ", "", text) or UNKNOWN
