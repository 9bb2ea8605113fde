"""Simulation of the monitoring's false alarms and delays: `python -m benchmarks.monitoring`, about ten minutes.

First, 90 days without a fault are simulated 1,000 times, so that every alarm is false. Then faults are added, and the
days until an alarm are counted. Alternative methods get the same data. docs/monitoring.md shows the results.
"""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from scipy import stats

from platform_assets.monitoring.daily.budget import days_per_check
from platform_assets.monitoring.daily.prediction_powered import Proxy, from_labels, prediction_powered
from platform_assets.monitoring.daily.quality import STAKES, after_day, tolerated_share, total
from platform_assets.monitoring.daily.series import (
    MODEL_CHECKS,
    SMALLEST_DISTINCT_RATIO,
    SMALLEST_DURATION_RATIO,
    SMALLEST_RATIO,
    SMALLEST_SHARE,
    SMALLEST_SHIFT,
    TABLE_CHECKS,
)
from platform_assets.monitoring.daily.usual import FEWEST, GAP, TAIL, WINDOW, deviations, judge_deviations, limit
from platform_assets.monitoring.drift.evidence import ColumnDetector
from platform_assets.monitoring.drift.rulers import CategoryRuler, NumberRuler

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.random import Generator
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Bools = NDArray[np.bool_]
    Change = Callable[[list[object]], None]
    Deviations = tuple[Floats, Floats]

RUNS = 1_000
AT_ONCE = 25
DAYS = 90
WARM = WINDOW + GAP
MODELS, TABLES, COLUMNS = 5, 25, 10
STREAMS = 6
WHOLE_DAYS, STREAM_DAYS = 90.0, 2_000.0
PER_CHECK = days_per_check(WHOLE_DAYS, STREAM_DAYS, STREAMS, MODELS * len(MODEL_CHECKS) + TABLES * len(TABLE_CHECKS))
AUTOCORRELATION = 0.3
WEEK = np.array([0.0, 0.05, 0.1, 0.05, 0.0, -0.8, -1.0])
ROWS_PER_DAY, TRAINING_ROWS = 200, 1_200
LABELS_PER_DAY, DISAGREEING, HOLDOUT_ROWS = 20, 0.1, 1_000
WEEKDAYS = np.arange(WARM + DAYS) % 7


@dataclass(frozen=True)
class Kind:
    """A quantity that is monitored as one or more daily series, such as the latency of each model.

    Attributes
    ----------
    name
        Name of the quantity.
    count
        Number of series.
    spread
        Standard deviation of the simulated values between days.
    noise
        Standard deviation that the detector assumes.
    per_check
        Number of series that one check monitors.
    weekly
        Whether the values depend on the day of the week.
    changes
        Whether each value is the difference from the day before.
    """

    name: str
    count: int
    spread: float
    noise: float
    per_check: int
    weekly: bool = False
    changes: bool = False


KINDS = (
    Kind("predictions per day", MODELS, 0.15, 0.06, 1, weekly=True),
    Kind("failed share", MODELS, 0.02, 0.03, 1),
    Kind("latency", MODELS, 0.2, SMALLEST_DURATION_RATIO, 1, weekly=True),
    Kind("mean and spread of predictions", 2 * MODELS, 0.1, 0.07, 2),
    Kind("estimated performance", 4 * MODELS, 0.02, 0.025, 4),
    Kind("age", TABLES, 0.1, SMALLEST_DURATION_RATIO, 1),
    Kind("rows", TABLES, 0.05, SMALLEST_RATIO, 1, changes=True),
    Kind("missing share", COLUMNS * TABLES, 0.01, SMALLEST_SHARE, COLUMNS, changes=True),
    Kind("different values", COLUMNS * TABLES // 2, 0.02, SMALLEST_DISTINCT_RATIO, COLUMNS, changes=True),
    Kind("categories", COLUMNS * TABLES // 2, 0.0, SMALLEST_DISTINCT_RATIO, COLUMNS, changes=True),
    Kind("smallest and largest", COLUMNS * TABLES, 0.3, SMALLEST_SHIFT, COLUMNS, changes=True),
    Kind("mean, spread and most frequent", COLUMNS * TABLES, 0.03, SMALLEST_SHIFT, COLUMNS, changes=True),
)


def healthy(random: Generator, kind: Kind, runs: int) -> Floats:
    """Return simulated values of days without faults, (days, runs * count).

    The values have heavy tails, and consecutive days are correlated.
    """
    shape = (WARM + DAYS, runs * kind.count)
    innovations = random.standard_t(TAIL, shape) * np.sqrt((TAIL - 2) / TAIL)
    values = innovations.copy()
    for day in range(1, len(values)):
        values[day] = AUTOCORRELATION * values[day - 1] + np.sqrt(1 - AUTOCORRELATION**2) * innovations[day]
    values *= kind.spread
    if kind.weekly:
        values += WEEK[WEEKDAYS][:, None]
    return np.diff(values, axis=0, prepend=values[:1]) if kind.changes else values


# --- Daily series -----------------------------------------------------------------------------------------------------


def ours(found: Deviations, days: float) -> Bools:
    """Return the alarms of the platform's e-detector, set to one false alarm in `days` days."""
    return judge_deviations(*found, np.full(found[0].shape[1], days)).alarm


def normal_chart(found: Deviations, days: float) -> Bools:
    """Return the alarms of a daily control chart whose limit assumes a normal distribution."""
    return np.asarray(np.abs(np.nan_to_num(found[0])) >= stats.norm.isf(0.5 / days))


def wide_chart(found: Deviations, days: float) -> Bools:
    """Return the alarms of a daily control chart whose limit assumes a heavy-tailed distribution."""
    return np.asarray(np.abs(np.nan_to_num(found[0])) >= limit(1 / days))


def window_mean(found: Deviations, days: float) -> Bools:
    """Return the alarms of a control chart of seven-day means whose limit assumes a normal distribution."""
    sums = np.cumsum(np.nan_to_num(found[0]), axis=0)
    sums[7:] = sums[7:] - sums[:-7]
    return np.asarray(np.abs(sums) / np.sqrt(7) >= stats.norm.isf(0.5 / days))


METHODS: Mapping[str, Callable[[Deviations, float], Bools]] = {
    "e-detector (ours)": ours,
    "control chart, normal limit": normal_chart,
    "control chart, limit for heavy tails": wide_chart,
    "mean of seven days, normal limit": window_mean,
}


def false_alarms_of_days(random: Generator) -> dict[str, float]:
    """Return each method's mean number of alarms in 90 days without faults. Alarms on consecutive days count once."""
    found = dict.fromkeys(METHODS, 0.0)
    for _ in range(RUNS // AT_ONCE):
        for kind in KINDS:
            values = healthy(random, kind, AT_ONCE)
            apart = deviations(values, np.full_like(values, kind.noise), WEEKDAYS)
            for name, method in METHODS.items():
                alarm = method(apart, PER_CHECK * kind.per_check)
                began = alarm[WARM:] & ~alarm[WARM - 1 : -1]
                found[name] += began.sum() / RUNS
    return found


def delays_of_days(random: Generator, kind: Kind, change: Callable[[Floats], Floats]) -> dict[str, str]:
    """Return each method's delay until it finds a fault, as text."""
    values = healthy(random, kind, -(-RUNS // kind.count))[:, :RUNS]
    start = WARM + 7
    values[start:] = change(values[start:])
    apart = deviations(values, np.full_like(values, kind.noise), WEEKDAYS)
    return {name: told(first(method(apart, PER_CHECK * kind.per_check)[start:])) for name, method in METHODS.items()}


def first(alarms: Bools) -> Floats:
    """Return the first day with an alarm in each column, counted from 1; infinity if there is no alarm."""
    return np.where(alarms.any(axis=0), alarms.argmax(axis=0) + 1.0, np.inf)


def told(delays: Floats) -> str:
    """Format delays as text, for example `8 (11), 98%`: median, 90th percentile, share within 30 days."""
    middle, most = np.quantile(delays, [0.5, 0.9], method="higher")
    shown = [f"{one:.0f}" if np.isfinite(one) else "never" for one in (middle, most)]
    return f"{shown[0]} ({shown[1]}), {np.mean(delays <= 30):.0%}"


# --- Requested rows ---------------------------------------------------------------------------------------------------


CATEGORIES = np.array(["a", "b", "c", "d", "e"], dtype=object)
SHARES = np.array([0.4, 0.25, 0.15, 0.1, 0.1])


def rows_of(random: Generator, count: int) -> tuple[Floats, Floats, NDArray[np.object_]]:
    return random.normal(size=count), random.gamma(2.0, size=count), random.choice(CATEGORIES, count, p=SHARES)


def drift_runs(
    random: Generator,
    runs: int,
    days: int,
    change: Callable[[list[object]], None] | None,
    wobble: float = 0.0,
    *,
    alone: bool = False,
) -> tuple[Floats, Floats, Floats]:
    """Simulate runs, and return the day of the first alarm in each run, for three methods.

    The methods are the platform's detector, daily two-sample tests that are corrected for the number of tests, and a
    limit of 0.2 on the population stability index (PSI). With `alone`, only the platform's detector is run.
    """
    found = np.full((3, runs), np.inf)
    for run in range(runs):
        training = rows_of(random, TRAINING_ROWS)
        rulers = [NumberRuler(training[0]), NumberRuler(training[1]), CategoryRuler(training[2])]
        detectors = [ColumnDetector(ruler, 3, STREAM_DAYS) for ruler in rulers]
        for day in range(1, days + 1):
            new: list[object] = list(rows_of(random, ROWS_PER_DAY))
            if wobble:
                new[0] = new[0] + random.normal(scale=wobble)  # type: ignore[operator]  # the first column holds numbers
            if change:
                change(new)
            # Update every detector each day. With a generator, `any` would stop at the first alarm.
            mine = [detector.add(values, 1.0).alarm for detector, values in zip(detectors, new, strict=True)]
            alarms = [any(mine)]
            if not alone:
                p = min(p_of_test(known, values) for known, values in zip(training, new, strict=True))
                index = max(psi(known, values) for known, values in zip(training, new, strict=True))
                alarms += [p < 1 / (3 * STREAM_DAYS), index > 0.2]
            for place, alarm in enumerate(alarms):
                if alarm and np.isinf(found[place, run]):
                    found[place, run] = day
            if np.isfinite(found[: len(alarms), run]).all():
                break
    return found[0], found[1], found[2]


def p_of_test(known: object, new: object) -> float:
    """Return the p-value of a two-sample test: Kolmogorov-Smirnov for numbers, chi-squared for texts."""
    known, new = np.asarray(known), np.asarray(new)
    if known.dtype.kind == "f":
        return float(stats.ks_2samp(known, new, method="asymp").pvalue)
    counts = np.array([[np.sum(values == one) for one in CATEGORIES] for values in (known, new)])
    return float(stats.chi2_contingency(counts[:, counts.sum(axis=0) > 0]).pvalue)


def psi(known: object, new: object) -> float:
    """Return the population stability index: over ten bins for numbers, over the categories for texts."""
    known, new = np.asarray(known), np.asarray(new)
    if known.dtype.kind == "f":
        edges = np.quantile(known, np.arange(1, 10) / 10)
        counts = [np.bincount(np.searchsorted(edges, values), minlength=10) for values in (known, new)]
    else:
        counts = [np.array([np.sum(values == one) for one in CATEGORIES]) for values in (known, new)]
    shares = [np.maximum(count / count.sum(), 1e-4) for count in counts]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def shifted(new: list[object]) -> None:
    new[0] = np.asarray(new[0]) + 0.3


def wider(new: list[object]) -> None:
    new[0] = np.asarray(new[0]) * 1.5


def stuck(new: list[object]) -> None:
    new[0] = np.full(ROWS_PER_DAY, np.asarray(new[0])[0])


def vanished(new: list[object]) -> None:
    texts = np.asarray(new[2], dtype=object)
    new[2] = np.where(texts == "e", "a", texts).astype(object)


# --- Labels -----------------------------------------------------------------------------------------------------------


def label_alarms(random: Generator, share: Callable[[int], float], runs: int) -> tuple[Floats, Floats, Floats]:
    """Simulate labels, and return the day of the first alarm in each run, for three methods.

    The methods are the platform's detector, a daily exact test of all labels so far, and a daily exact test of the
    labels of the last 30 days.
    """
    holdout = random.binomial(HOLDOUT_ROWS, 1 - DISAGREEING, runs) / HOLDOUT_ROWS
    low = holdout - 1.96 * np.sqrt(holdout * (1 - holdout) / HOLDOUT_ROWS)
    wrong = np.stack([random.binomial(LABELS_PER_DAY, share(day), runs) for day in range(DAYS)])
    mine = np.zeros((DAYS, runs), bool)
    for run in range(runs):
        most, capital = tolerated_share(float(low[run])), np.full(len(STAKES), -np.inf)
        for day in range(DAYS):
            capital = after_day(capital, wrong[day, run], np.asarray(LABELS_PER_DAY - wrong[day, run]), most)
            mine[day, run] = total(capital) >= PER_CHECK
    tolerated = np.asarray(1 - low + 0.025)
    so_far = np.cumsum(wrong, axis=0)
    in_window = so_far - np.concatenate([np.zeros((30, runs), int), so_far])[:DAYS]
    labels = LABELS_PER_DAY * np.arange(1, DAYS + 1)[:, None]
    tests = [
        stats.binom.sf(count - 1, number, tolerated) < 1 / PER_CHECK
        for count, number in ((so_far, labels), (in_window, np.minimum(labels, 30 * LABELS_PER_DAY)))
    ]
    return first(mine), first(tests[0]), first(tests[1])


def share_from(start: int, share: float, day: int) -> float:
    """Return the share of labels that disagree with predictions: `DISAGREEING` before day `start`, then `share`."""
    return share if day >= start else DISAGREEING


def intervals(random: Generator, labels: int, predictions: int, runs: int = 2_000) -> str:
    """Simulate two confidence intervals; return their coverage and mean width as a table row.

    The first interval uses only the labels. The second uses labels and predictions (prediction-powered inference).
    """
    inside, width = np.zeros(2), np.zeros(2)
    for _ in range(runs):
        # Shift the calibrated probabilities, so that the performance estimated from them is biased.
        truth = random.beta(0.3, 0.9, predictions)
        scores = np.clip(truth + 0.05, 0, 1)
        outcomes = random.random(predictions) < truth
        losses = ((scores >= 0.5) != outcomes).astype(float)
        estimated = np.minimum(scores, 1 - scores)
        known = slice(0, labels)
        every = Proxy(predictions, float(estimated.mean()), float(estimated.var(ddof=1)))
        expected = float(np.where(truth + 0.05 >= 0.5, 1 - truth, truth).mean())
        for place, one in enumerate(
            (from_labels(losses[known]), prediction_powered(losses[known], estimated[known], every))
        ):
            inside[place] += one.low <= expected <= one.high
            width[place] += one.high - one.low
    return (
        f"| {labels} of {predictions:,} | {inside[0] / runs:.1%} | {width[0] / runs:.3f} | {inside[1] / runs:.1%} "
        f"| {width[1] / runs:.3f} |"
    )


# --- Report -----------------------------------------------------------------------------------------------------------


def line(*cells: str) -> None:
    print("| " + " | ".join(cells) + " |", flush=True)


def report_days(random: Generator) -> float:
    print(f"\n{sum(kind.count for kind in KINDS):,} daily series, {RUNS:,} runs of {DAYS} days without faults")
    found = false_alarms_of_days(random)
    line("method", "false alarms in 90 days")
    for name, number in found.items():
        line(name, f"{number:.3f}")
    kinds = {kind.name: kind for kind in KINDS}
    faults: Sequence[tuple[str, Kind, Callable[[Floats], Floats]]] = (
        ("volume halved", kinds["predictions per day"], lambda values: values - np.log(2)),
        (
            "volume halved, with day-to-day variation of only 8 %",
            replace(kinds["predictions per day"], spread=0.08),
            lambda values: values - np.log(2),
        ),
        ("latency doubled", kinds["latency"], lambda values: values + np.log(2)),
        ("rows of a table halved once", kinds["rows"], once(-np.log(2))),
        ("a column of a table constant", kinds["mean, spread and most frequent"], once(-5.0)),
        ("mean of a table's column shifted by 0.5 sd", kinds["mean, spread and most frequent"], once(0.5)),
        ("one of five categories vanished from a table", kinds["categories"], once(np.log(5 / 6))),
        ("5 % of the values missing instead of 0.5 %", kinds["missing share"], once(0.155)),
    )
    line("fault", *METHODS)
    for name, kind, change in faults:
        line(name, *delays_of_days(random, kind, change).values())
    return found["e-detector (ours)"]


def once(size: float) -> Callable[[Floats], Floats]:
    """Return a function that adds `size` to the value of the first day only.

    Checks of tables monitor the change from one version to the next. A lasting fault is therefore a single change.
    """

    def change(values: Floats) -> Floats:
        return np.concatenate([values[:1] + size, values[1:]])

    return change


def report_drift(random: Generator) -> float:
    print(f"\nRequested rows: {ROWS_PER_DAY} per day, 3 columns, {TRAINING_ROWS:,} training rows")
    line("case", "e-detector (ours)", "daily tests, corrected", "PSI above 0.2")
    mine = float(np.isfinite(drift_runs(random, RUNS, DAYS, None, alone=True)[0]).mean())
    _, tests, index = (np.isfinite(one).mean() for one in drift_runs(random, 200, DAYS, None))
    line("fault-free 90-day runs that raised an alarm", f"{mine:.1%}", f"{tests:.1%}", f"{index:.1%}")
    wobbling = [np.isfinite(one).mean() for one in drift_runs(random, 200, DAYS, None, wobble=0.05)]
    line("the same, with daily means varying by 0.05 sd", *(f"{one:.1%}" for one in wobbling))
    for name, change in (
        ("mean shifted by 0.3 sd", shifted),
        ("standard deviation multiplied by 1.5", wider),
        ("feature stuck at one value", stuck),
        ("category with 10 % vanished", vanished),
    ):
        line(name, *(told(one) for one in drift_runs(random, 200, 60, change)))
    return mine


def report_labels(random: Generator) -> float:
    print(f"\nLabels: {LABELS_PER_DAY} per day, {DISAGREEING:.0%} disagree, holdout of {HOLDOUT_ROWS:,} rows")
    line("case", "e-detector (ours)", "test of all labels, corrected", "test of 30 days, corrected")
    well = [np.isfinite(one).mean() for one in label_alarms(random, partial(share_from, DAYS, DISAGREEING), RUNS)]
    line("fault-free 90-day runs that raised an alarm", *(f"{one:.2%}" for one in well))
    for name, share in (
        ("all labels flipped", 1 - DISAGREEING),
        ("a fifth of the labels flipped", DISAGREEING + 0.2 * (1 - 2 * DISAGREEING)),
    ):
        for start in (0, 60):
            found = label_alarms(random, partial(share_from, start, share), 200)
            line(f"{name}, after {start} days without faults", *(told(np.maximum(one - start, 1)) for one in found))
    print("\n| labels of predictions | labels alone: coverage | width | with predictions: coverage | width |")
    for labels, predictions in ((50, 2_000), (100, 5_000), (400, 20_000)):
        print(intervals(random, labels, predictions), flush=True)
    return float(well[0])


def main() -> int:
    began, random = time.monotonic(), np.random.default_rng(20_260_101)
    print(f"limit: one false alarm per check in {PER_CHECK:,.0f} days; a check needs {FEWEST} or more earlier days")
    days, labels, drift = report_days(random), report_labels(random), report_drift(random)
    whole = days + STREAMS * drift + MODELS * labels
    print(f"\nfalse alarms of the platform in {DAYS} days without faults: {whole:.2f} (limit: {DAYS / WHOLE_DAYS:g})")
    print(f"{time.monotonic() - began:.0f} s")
    return int(whole > DAYS / WHOLE_DAYS)


if __name__ == "__main__":
    sys.exit(main())
