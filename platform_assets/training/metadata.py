"""Dagster metadata of a model: tables of metrics, plots, card and verdict."""

import base64
import math
import re
import string
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import dagster as dg

from platform_assets.approval.requests import Request, State
from platform_assets.base.number_text import significant
from platform_assets.evaluation.gate import Criterion, NotWorse, Verdict
from platform_assets.evaluation.intervals import Estimate
from platform_assets.evaluation.metric_catalogue import SUBGROUP_METRICS, metric_named
from platform_assets.training.model_spec import ModelSpec
from platform_assets.training.training_results import Assessment, Evaluation, Training

VERDICT = "verdict"
"""Metadata key of the quality gate's verdict."""
APPROVAL = "approval"
"""Metadata key of the state of the approval request."""
LONGEST_TEXT = 300
"""Maximum number of characters of a text in a table; the rest is cut."""
KIB = 1_024
LARGE = 100
"""Means of the ranking metric that are at least this large are shown with fewer decimals."""
FIRST_TABLE_ROWS = "first_table_rows"
"""Metadata key of the number of rows in the model's first table."""


def of_training(spec: ModelSpec, training: Training, request: Request | None) -> dict[str, Any]:
    """Return the metadata of a materialisation and its approval request."""
    version, split = training.version, training.record["split"]
    return {
        VERDICT: told(training.assessment.verdict),
        APPROVAL: awaited(request),
        "model_version": version.version,
        "newly_trained": training.is_new,
        "champion": f"version {training.champion.version}" if training.champion else "none",
        "card": dg.MetadataValue.md(training.record["card"]),
        **of_assessment(training.assessment, training.plots),
        "leaderboard": dg.MetadataValue.md(_leaderboard(spec, training.record["leaderboard"])),
        # Use plain numbers, because Dagster plots them over time.
        **{one.metric: training.assessment.estimates[one.metric].value for one in spec.criteria},
        **({} if version.threshold is None else {"threshold": version.threshold}),
        "training_rows": split["training_rows"],
        "holdout_rows": split["holdout_rows"],
        "left_out_rows": split["left_out_rows"],
        FIRST_TABLE_ROWS: training.first_table_rows,
        "inputs": dg.MetadataValue.json(
            {name: {"version": version.tables[name], "digest": version.table_digests[name]} for name in version.tables}
        ),
        "digest": version.digest,
        "fingerprint": version.fingerprint,
        "tags": dg.MetadataValue.json(dict(version.tags)),
        "demo": training.demo,
    }


def of_evaluation(evaluation: Evaluation) -> dict[str, Any]:
    """Return the metadata of an evaluation on current examples."""
    return {
        "model_version": evaluation.version.version,
        "examples": evaluation.examples,
        VERDICT: told(evaluation.assessment.verdict),
        **of_assessment(evaluation.assessment, evaluation.assessment.plots),
    }


def of_check(assessment: Assessment, demand: Criterion | NotWorse) -> dict[str, Any]:
    """Return the numbers of a check, which Dagster plots over time.

    They are the value of the metric and the ends of its interval. If a criterion tests the metric's lower bound, this
    bound is included. Undefined numbers are omitted.
    """
    found = assessment.estimates if isinstance(demand, Criterion) else assessment.difference or {}
    estimate = found.get(demand.metric)
    numbers = {"value": estimate.value, "low": estimate.low, "high": estimate.high} if estimate else {}
    if isinstance(demand, Criterion) and demand.lower_bound:
        numbers["lower_bound"] = demand.tested(assessment.estimates)
    return {name: number for name, number in numbers.items() if not math.isnan(number)}


def told(verdict: Verdict) -> str:
    """Return the verdict in one line."""
    return "passed" if verdict.passed else f"FAILED: {'; '.join(faults(verdict))}"


def awaited(request: Request | None) -> str:
    """Return the state of a version's approval request in one line."""
    if request is None:
        return "no new request: a decision about this version exists already"
    if request.state is State.PENDING:
        return f"request {request.id} is awaiting approval: platform-assets decide show {request.id}"
    return f"request {request.id} is {request.state}"


def faults(verdict: Verdict) -> list[str]:
    """Return one sentence for each criterion or comparison that failed."""
    return [reason.told for reason in verdict.reasons if not reason.passed]


def of_assessment(assessment: Assessment, plots: Mapping[str, bytes]) -> dict[str, Any]:
    """Return tables of metrics and errors, and the plots."""
    return {
        "metrics": dg.MetadataValue.md(_metrics(assessment)),
        **{
            f"metrics_by_{column}": dg.MetadataValue.md(_subgroups(column, values))
            for column, values in assessment.subgroups.items()
        },
        **{f"errors_{kind}": dg.MetadataValue.md(_errors(rows)) for kind, rows in assessment.errors.items()},
        **{f"plot_{name.removesuffix('.png')}": dg.MetadataValue.md(image(name, png)) for name, png in plots.items()},
    }


def _metrics(assessment: Assessment) -> str:
    difference = assessment.difference
    headings = ["metric", "value", "95 % interval", *(["difference from champion"] if difference else []), "definition"]
    rows = [
        [
            name,
            _number(one.value),
            _interval(one),
            *([f"{_number(difference[name].value)} ({_interval(difference[name])})"] if difference else []),
            metric_named(name).description,
        ]
        for name, one in assessment.estimates.items()
    ]
    return table(headings, rows)


def _subgroups(column: str, values: Mapping[str, Mapping[str, Estimate]]) -> str:
    names = [name for name in SUBGROUP_METRICS if any(name in found for found in values.values())]
    rows = [[value, *(_with_interval(found[name]) for name in names)] for value, found in sorted(values.items())]
    return table([column, *names], rows)


def _leaderboard(spec: ModelSpec, lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the leaderboard as a table. A cell is empty if an older release did not record the number."""
    rows = [
        [
            line["candidate"],
            ", ".join(f"{name}={value}" for name, value in line["parameters"].items()),
            f"{_mean(line['mean'])} ± {_mean(line['deviation'])}",
            *(_or_empty(line.get("metrics", {}).get(name)) for name in spec.task.leaderboard_metrics),
            f"{line['seconds']:.1f}",
            _or_empty(line.get("fit_seconds")),
            _or_empty(line.get("microseconds_per_row")),
            f"{line['artefact_bytes'] / KIB:,.0f}" if line.get("artefact_bytes") else "",
        ]
        for line in lines
    ]
    headings = [
        "candidate",
        "parameters",
        f"{spec.ranked_by}, mean ± sd over {spec.folds} folds",
        *(f"{metric_named(name).label}, out of fold" for name in spec.task.leaderboard_metrics),
        "all folds (s)",
        "fit (s)",
        "prediction (µs per row)",
        "artefact (KiB)",
    ]
    return table(headings, rows)


def _mean(value: float) -> str:
    return f"{value:.4f}" if abs(value) < LARGE else f"{value:,.1f}"


def _or_empty(value: float | None) -> str:
    return "" if value is None else _number(value)


def _errors(rows: Any) -> str:
    cells = [[_quoted(value) for value in row] for row in rows.itertuples(index=False)]
    return table(map(str, rows.columns), cells) if cells else "None."


def _quoted(value: Any) -> str:
    """Escape a value for a Markdown table, because user texts can contain links, images and vertical bars."""
    if isinstance(value, float):
        return _number(value)
    text = " ".join("".join(letter if letter.isprintable() else " " for letter in str(value)).split())
    cut = text if len(text) <= LONGEST_TEXT else f"{text[:LONGEST_TEXT]} .."
    return re.sub(rf"([{re.escape(string.punctuation)}])", r"\\\1", cut)


def _with_interval(one: Estimate) -> str:
    interval = _interval(one)
    return f"{_number(one.value)} ({interval})" if interval else _number(one.value)


def _interval(one: Estimate) -> str:
    # Do not show an interval of zero width. Its ends can differ by rounding errors.
    if math.isnan(one.low) or math.isclose(one.low, one.high, rel_tol=1e-9):
        return ""
    # Non-breaking spaces keep the interval on one line in a narrow column.
    return f"{_number(one.low)} to {_number(one.high)}".replace(" ", "\N{NO-BREAK SPACE}")


def _number(value: float) -> str:
    if math.isnan(value):
        return "undefined"
    return f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else significant(value)


def table(headings: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table."""
    from tabulate import tabulate

    return tabulate(rows, headers=list(headings), tablefmt="github", disable_numparse=True)


def image(name: str, png: bytes) -> str:
    """Return a Markdown image with the PNG embedded as a data URI."""
    return f"![{name}](data:image/png;base64,{base64.b64encode(png).decode()})"
