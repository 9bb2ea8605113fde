"""Format a trace as text."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.printable_text import escaped

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from platform_assets.monitoring.trace.results import (
        RowsOfTable,
        SourceRow,
        Trace,
        TracedAnswer,
        TracedModel,
        TracedTable,
    )
    from platform_assets.serving.shadow_store import ShadowScore

MOST_ROWS = 12
"""Maximum number of rows per table in the text. The JSON of a trace contains more rows."""
UNKNOWN = "not recorded"


def written(trace: Trace) -> Iterator[str]:
    """Yield the text of a trace, line by line."""
    yield f"Trace of {escaped(trace.id)}"
    few = f", {len(trace.answers)} shown; use --answer N to show another answer"
    if trace.total > 1:
        yield f"  {trace.total:,} answers{few if trace.total > len(trace.answers) else ''}"
    for answer in trace.answers:
        yield from _answer(answer)
    for model in trace.models:
        yield from _model(model)
    yield ""
    yield "Source tables of the features and the training"
    for table in trace.tables:
        yield from _table(table)


def _answer(answer: TracedAnswer) -> Iterator[str]:
    yield ""
    about = f" about {escaped(answer.subject)}" if answer.subject else ""
    yield f"Answer of {answer.model} version {answer.version}{about}"
    yield f"  at: {_moment(answer.at)}"
    if answer.caller is not None:
        yield f"  asked by: {escaped(answer.caller) if answer.caller else 'a program without a key, on this machine'}"
    yield f"  answer: {_values(answer.answer)}"
    yield from _shadows(answer.shadows)
    yield f"  features as served: {_values(answer.features)}"
    tables = ", ".join(f"{name} version {version}" for name, version in answer.inputs.items())
    if answer.read_from:
        table, _, version = answer.read_from.rpartition("@")
        yield f"  read from: {table} version {version}, made from {tables or UNKNOWN}"
    elif tables:
        yield f"  made from: {tables}"
    elif answer.caller is not None and not answer.rows:
        yield "  read from: the request, which contained the features"
    yield from _missing(answer.missing)
    for rows in answer.rows:
        yield from _rows(rows)


def _shadows(scores: Iterable[ShadowScore]) -> Iterator[str]:
    for one in scores:
        named = {"score": one.score, "positive": one.positive, "threshold": one.threshold}
        values = {name: value for name, value in named.items() if value is not None}
        agrees = "agrees" if one.agrees else "does NOT agree"
        yield f"  shadow of version {one.version}, request {one.approval_id}: {_values(values)}, {agrees}"


def _rows(found: RowsOfTable) -> Iterator[str]:
    version = "unknown version" if found.version is None else f"version {found.version}"
    equal = {True: "; equal to the features as served", False: "; NOT equal to the features as served", None: ""}
    yield f"  rows of {found.table}, {version}{equal[found.equal_to_served]}:"
    shown = [row.values if row.text is None else row.text for row in found.rows[:MOST_ROWS]]
    for names in shown[:1]:
        yield f"    columns: {escaped(', '.join(names))}"
    for row, values in zip(found.rows, shown, strict=False):
        yield f"    {_place(row)}{escaped(', '.join('' if one is None else _as_text(one) for one in values.values()))}"
    if more := found.more + len(found.rows[MOST_ROWS:]):
        yield f"    and {more:,} more rows"
    for row in found.rows[:1]:
        if row.file_digest:
            yield f"    file: {escaped(row.file or UNKNOWN)}, SHA-256 {row.file_digest}"
    yield from _missing(found.missing)


def _place(row: SourceRow) -> str:
    return "" if row.line is None else f"line {row.line}: "


def _model(model: TracedModel) -> Iterator[str]:
    yield ""
    yield f"Model {model.name} version {model.version}"
    threshold = "" if model.threshold is None else f", threshold {model.threshold:g}"
    yield f"  digest: {model.digest or UNKNOWN}{threshold}"
    yield f"  approval: request {model.approval_id}"
    for decision in model.decisions:
        yield f"    {decision.told}"
    demo = ", on sample data" if model.demo else ""
    yield f"  training: {_moment(model.trained_at)}, launched by {escaped(model.launched_by or UNKNOWN)}{demo}"
    yield f"  Dagster run: {model.dagster_run or UNKNOWN}, MLflow run: {model.mlflow_run or UNKNOWN}"
    yield f"  commit: {model.git_commit or UNKNOWN}, code {model.code or UNKNOWN}"
    trained_on = (f"{name} version {version}" for name, version in model.tables.items())
    yield f"  trained on: {', '.join(trained_on) or UNKNOWN}"
    yield from _missing(model.missing)


def _table(table: TracedTable) -> Iterator[str]:
    if table.committed_at is None:
        yield f"  {table.name} version {table.version}: {table.missing}"
        return
    demo = ", sample data" if table.demo else ""
    yield f"  {table.name} version {table.version}: {table.rows:,} rows, {_moment(table.committed_at)}{demo}"
    yield f"    digest {table.digest}, made by run {table.run or UNKNOWN}, code {table.code or UNKNOWN}"
    if table.source_digest:
        yield f"    from the file {escaped(table.source or UNKNOWN)}, SHA-256 {table.source_digest}"
    if table.inputs:
        numbers = (f"{name} version {' and '.join(map(str, versions))}" for name, versions in table.inputs.items())
        yield f"    from {', '.join(numbers)}"
    if table.undone:
        yield f"    UNDONE: {escaped(table.undone)}"
    yield from _missing([table.missing] if table.missing else [], indent=4)


def _missing(reasons: Iterable[str], indent: int = 2) -> Iterator[str]:
    for reason in reasons:
        yield f"{' ' * indent}missing: {escaped(reason)}"


def _values(values: Mapping[str, Any] | Sequence[Any]) -> str:
    if not values:
        return "not stored"
    return escaped(json.dumps(values, default=_as_text, ensure_ascii=False))


def _as_text(value: Any) -> str:
    return _moment(value) if isinstance(value, datetime) else str(value)


def _moment(moment: datetime | None) -> str:
    return UNKNOWN if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} {moment.tzname() or ''}".rstrip()
