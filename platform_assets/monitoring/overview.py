"""Content of the monitoring pages: newest check results and charts of each model, and failed checks of tables."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.monitoring.charts import Chart, DayValue, chart
from platform_assets.monitoring.daily.judging import read_days
from platform_assets.monitoring.daily.measurements import newest
from platform_assets.monitoring.daily.report import told
from platform_assets.monitoring.daily.schemas import MODEL_DAYS, TABLE_DAYS
from platform_assets.monitoring.daily.series import MODEL_CHECKS, MODEL_SERIES, TABLE_CHECKS, TABLE_SERIES
from platform_assets.monitoring.drift.history import Stream
from platform_assets.monitoring.drift.verdict import newest_verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import date

    from platform_assets.base.frames import Frame
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.monitoring.drift.history import DriftHistory
    from platform_assets.training.model_spec import ModelSpec

SHOWN = timedelta(days=90)
_OVERVIEW = "predictions"
_TABLE_SEVERITIES = {check.name: check.severity for check in TABLE_CHECKS}


@dataclass(frozen=True)
class Result:
    """Newest result of a check.

    Attributes
    ----------
    name, description, severity
        Attributes of the check; see `Check`. A failed check opens an incident only if its severity is `error`.
    told
        Description of the result in one sentence.
    passed
        Whether the check passed; None if there were no values to check.
    """

    name: str
    description: str
    severity: str
    told: str
    passed: bool | None


@dataclass(frozen=True)
class WatchedModel:
    """A model on the overview.

    Attributes
    ----------
    name
        Name of the model.
    measured
        Newest day on which the model was measured; None if there is none.
    alarms
        The failed checks.
    chart
        Chart of the predictions per day; None if there are no values.
    """

    name: str
    measured: date | None
    alarms: tuple[Result, ...]
    chart: Chart | None


@dataclass(frozen=True)
class TableAlarm:
    """A failed check of a table."""

    table: str
    check: str
    severity: str
    told: str


def models(tables: TableStore, drift: DriftHistory, specs: Iterable[ModelSpec]) -> list[WatchedModel]:
    """Return the content of the overview: all models, starting with those that have a failed check.

    Raises
    ------
    TableError, DatabaseError
        The lake or the drift history cannot be read.
    """
    days = read_days(tables, MODEL_DAYS, since=_since())
    found = []
    for spec in specs:
        own = None if days is None else days[days["subject"] == spec.name]
        if own is None or own.empty:
            results, measured, drawn = _new_rows(drift, spec), None, None
        else:
            results, measured = [*_results(own), *_new_rows(drift, spec)], own["day"].max()
            drawn = next(iter(_charts(own, [_OVERVIEW])), None)
        alarms = tuple(one for one in results if one.passed is False)
        found.append(WatchedModel(spec.name, measured, alarms, drawn))
    return sorted(found, key=lambda one: (not one.alarms, one.name))


def model(tables: TableStore, drift: DriftHistory, spec: ModelSpec) -> tuple[bool, list[Result], list[Chart]]:
    """Return whether the job `monitor` has measured a model; the newest results of its checks; and its charts."""
    own = read_days(tables, MODEL_DAYS, spec.name, _since())
    new_rows = _new_rows(drift, spec)
    if own is None or own.empty:
        return False, new_rows, []
    return True, [*_results(own), *new_rows], sorted(_charts(own, list(MODEL_SERIES)), key=lambda one: not one.alarms)


def table_alarms(tables: TableStore) -> list[TableAlarm]:
    """Return the failed checks of all tables."""
    days = read_days(tables, TABLE_DAYS, since=_since())
    if days is None:
        return []
    judged = newest(days, TABLE_SERIES)
    alarmed = judged[judged["is_open"].astype(bool)]
    return [
        TableAlarm(str(table), str(check), _TABLE_SEVERITIES[str(check)], told(rows, rows, TABLE_SERIES))
        for (table, check), rows in alarmed.groupby(["subject", "check"])
    ]


def _since() -> date:
    return datetime.now(UTC).date() - SHOWN


def _results(own: Frame) -> list[Result]:
    judged = newest(own, MODEL_SERIES)
    found = []
    for check in MODEL_CHECKS:
        rows = judged[judged["check"] == check.name]
        if rows.empty:
            found.append(Result(check.name, check.description, check.severity, "no values to check yet", None))
        else:
            alarmed = rows[rows["is_open"].astype(bool)]
            message = told(alarmed, rows, MODEL_SERIES)
            found.append(Result(check.name, check.description, check.severity, message, alarmed.empty))
    return found


def _new_rows(drift: DriftHistory, spec: ModelSpec) -> list[Result]:
    """Return the result of the drift check of the model's table of new rows, if it declares one."""
    if spec.incoming is None:
        return []
    table = spec.incoming.table
    passed, message = newest_verdict(drift, Stream(spec.name, table))
    description = f"The newest rows of {table} have the same distribution as the training rows. Checked on arrival."
    return [Result("new_rows_are_as_in_training", description, "warn", message, passed)]


def _charts(own: Frame, names: Sequence[str]) -> Iterable[Chart]:
    for name in names:
        series = MODEL_SERIES[name]
        of_series = own[(own["series"] == name) & own["value"].notna()]
        for column, rows in of_series.sort_values("day").groupby("column"):
            title = f"{series.title}: {column!s}" if column else series.title
            drawn = chart(title, series.unit, [_day(row) for row in rows.to_dict("records")])
            if drawn is not None and name != "failed":
                yield drawn


def _day(row: dict[Any, Any]) -> DayValue:
    alarm = bool(row["alarm"]) or bool(row["is_open"])
    return DayValue(row["day"], float(row["value"]), float(row["low"]), float(row["high"]), alarm)
