"""The run report: materialise every asset in this process and collect the outcome of each.

The command `run` uses this module. The UI and the schedules launch runs through Dagster.
"""

import logging
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import dagster as dg

from platform_assets.base.errors import PlatformError
from platform_assets.orchestration.declared import ON_REQUEST
from platform_assets.orchestration.failures import DUCKDB_INTERRUPTION, INTERRUPTED, innermost, reason
from platform_assets.orchestration.in_process_runs import partition_tags, run_in_process
from platform_assets.serving.assets import WAITS
from platform_assets.training.metadata import APPROVAL, VERDICT

State = Literal["waiting", "running", "done", "failed", "skipped"]
NEWEST_PARTITIONS = 26
"""Number of partitions of a partitioned table that a run materialises. For monthly partitions, this is two years plus
the current month and the next month."""


@dataclass
class Outcome:
    """The outcome of one asset.

    Attributes
    ----------
    asset
        Key of the asset, `<domain>/<name>`.
    state
        State of the asset after the run.
    rows
        Rows of the table; None for other assets.
    seconds
        Duration of the asset's step.
    passed, failed
        Names of the checks that passed, and of those that failed.
    blocked
        Whether a failed check prevented the publication of the table.
    quarantined
        Number of quarantined rows; None for a table without a quarantine.
    quarantined_by
        Number of quarantined rows, by failed check.
    demo
        Whether the rows come from demo data.
    verdict
        Result of the quality gate, for a model.
    approval
        State of the approval request, for a model.
    waits
        For stored predictions: files without predictions so far, and the reason. Empty if there are none.
    reason
        Reason for the failure or the skip.
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
    """Materialise every asset. A failure skips only the assets that depend on the failed asset.

    Only the newest partitions of a partitioned table are materialised. Backfills materialise all other partitions.

    Parameters
    ----------
    definitions
        The code location.
    instance
        Dagster's instance, which records the run.
    progress
        Function that is called when an asset begins and when it ends.
    tell
        Function that is called with each message that an asset logs at level INFO.
    """
    job = _without_those_on_request(definitions).resolve_implicit_global_asset_job_def()
    recorder = _Recorder(job, progress, tell)
    run_id = str(uuid.uuid4())
    instance.add_event_listener(run_id, recorder)
    try:
        # Pass the default selection explicitly, so that the UI lists the assets next to the run.
        run_in_process(job, instance, run_id=run_id, asset_selection=recorder.assets, tags=recorder.partitions())
    except PlatformError as error:
        recorder.run_failure = str(error)
    except KeyboardInterrupt:
        recorder.run_failure = INTERRUPTED
    return Report(recorder.finished(), run_id, interrupted=recorder.run_failure == INTERRUPTED)


def _without_those_on_request(definitions: dg.Definitions) -> dg.Definitions:
    """Return the assets and checks of the definitions, except assets and checks that run on request only."""

    def runs(specs: Iterable[dg.AssetSpec | dg.AssetCheckSpec]) -> bool:
        return not any(ON_REQUEST in spec.metadata for spec in specs)

    return dg.Definitions(
        assets=[one for one in definitions.assets or () if not isinstance(one, dg.AssetsDefinition) or runs(one.specs)],
        asset_checks=[one for one in definitions.asset_checks or () if runs(one.check_specs)],
        resources=definitions.resources,
        executor=definitions.executor,
        loggers=definitions.loggers,
    )


class _Recorder:
    """Collects outcomes from a run's events."""

    def __init__(self, job: dg.JobDefinition, progress: Callable[[Outcome], None], tell: Callable[[str], None]) -> None:
        graph = job.asset_layer.asset_graph
        self._nodes = {key: graph.get(key) for key in graph.toposorted_asset_keys if graph.get(key).is_materializable}
        # Key of the checked asset, by the name of the step that runs the check: the step of the asset itself, or a
        # separate step.
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
            self.run_failure = reason(event.job_failure_data.error)
        for outcome in self._outcomes_of(event):
            self._record(outcome, event, entry.timestamp)
        if event.is_step_failure and innermost(event.step_failure_data.error) == DUCKDB_INTERRUPTION:
            # Stop the run, because DuckDB turns Ctrl-C into an ordinary error, after which Dagster would start the
            # next asset.
            raise KeyboardInterrupt

    @property
    def assets(self) -> list[dg.AssetKey]:
        """The assets to materialise."""
        return list(self._nodes)

    def partitions(self) -> dict[str, str]:
        """Return the tags that name the newest partitions; none if no table is partitioned."""
        partitioned = {node.key.to_user_string(): node.partitions_def for node in self._nodes.values()}
        definitions = {definition for definition in partitioned.values() if definition}
        if len(definitions) > 1:
            names = ", ".join(name for name, definition in partitioned.items() if definition)
            raise PlatformError(f"{names} have different partitions; one run needs the same partitions for all tables")
        keys = [key for definition in definitions for key in definition.get_partition_keys()[-NEWEST_PARTITIONS:]]
        return partition_tags(keys[0], keys[-1]) if keys else {}

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
        """Return the asset of a check that raised an error instead of returning a result; empty for other events."""
        key = self._checked.get(event.step_key or "")
        # A blocking check that returns the result "failed" also fails its step. Ignore this step failure.
        return [key] if key in self._outcomes and event.is_step_failure and not self._outcomes[key].blocked else []

    def _record(self, outcome: Outcome, event: dg.DagsterEvent, timestamp: float) -> None:
        match event.event_type:
            case dg.DagsterEventType.STEP_START:
                outcome.state, outcome.started = "running", timestamp
            case dg.DagsterEventType.STEP_SUCCESS:
                outcome.state, outcome.seconds = "done", timestamp - outcome.started
            case dg.DagsterEventType.STEP_FAILURE:
                outcome.state, outcome.seconds = "failed", outcome.seconds or timestamp - outcome.started
                outcome.reason = reason(event.step_failure_data.error)
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


def _number(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> int | None:
    return int(metadata[name].value) if name in metadata else None


def _numbers(metadata: Mapping[str, dg.MetadataValue[Any]], name: str) -> dict[str, int]:
    value: Any = metadata[name].value if name in metadata else {}
    return {key: int(number) for key, number in value.items()}
