"""The drift monitor compares each batch of new rows once with the training rows of the champion or newest version."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from platform_assets.base.errors import TableError, TrainingError
from platform_assets.models.registry import CHAMPION
from platform_assets.monitoring.drift import monitor as monitor_module
from platform_assets.monitoring.drift.history import BATCH
from platform_assets.monitoring.drift.reference import JOINT, PROBABILITY, read_reference
from platform_assets_tests.monitoring.drift.arrivals import SPEC, STREAM, Station, batch, forget
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE
from platform_assets_tests.training.breakage_model import SPEC as OTHER_SPEC

if TYPE_CHECKING:
    from platform_assets_tests.training.bench import Bench

COLUMNS = {"heat", "noise", JOINT, PROBABILITY}


@pytest.mark.requirement("SEN-8", "MON-1")
def test_each_batch_and_day_is_stored_with_drift_and_estimated_performance(station: Station) -> None:
    station.arrive(batch("a.csv", 80), batch("b.csv", 40, days=0.1), batch("c.csv", 60, days=1.5))
    measurement = station.measure()
    assert [one.name for one in measurement.batches] == ["a.csv", "b.csv", "c.csv"]
    assert station.rows(
        "select unit, batch, name, version, n, alarm, run from platform.drift_batches order by 1, 2"
    ) == [
        ("batch", "digest of a.csv", "a.csv", 1, 80, False, "a run"),
        ("batch", "digest of b.csv", "b.csv", 1, 40, False, "a run"),
        ("batch", "digest of c.csv", "c.csv", 1, 60, False, "a run"),
        ("day", "2026-01-01", "2026-01-01", 1, 120, False, "a run"),
        ("day", "2026-01-02", "2026-01-02", 1, 60, False, "a run"),
    ]
    stored = station.rows(
        "select feature, n, statistic, threshold, effect from platform.drift where batch like '%a.csv'"
    )
    assert {feature for feature, *_ in stored} == COLUMNS
    assert {rows for _, rows, *_ in stored} == {80}
    assert all(0 < statistic < threshold == 4_000 and 0 < effect < 0.5 for *_, statistic, threshold, effect in stored)
    estimates = station.rows(
        "select metric, low < value and value < high from platform.estimated_performance where unit = 'day'"
    )
    assert sorted(estimates) == sorted(2 * [(name, True) for name in ("recall", "precision", "f2", "accuracy")])


@pytest.mark.requirement("SEN-8")
def test_a_shifted_feature_raises_an_alarm_that_names_it(station: Station) -> None:
    station.arrive(batch("usual.csv"), batch("hot.csv", shift=2.0, days=0.5), batch("later.csv", days=1.2))
    measurement = station.measure()
    assert [sorted(one.alarm) for one in measurement.batches] == [[], [JOINT, "heat", PROBABILITY], []]
    assert [sorted(one.alarm) for one in measurement.days] == [[JOINT, "heat", PROBABILITY], []]
    told = measurement.batches[1].columns["heat"].told
    assert ", above the tolerated range of " in told
    alarm = station.history.newest_alarm(STREAM)
    assert alarm is not None
    assert alarm.name == "hot.csv"
    [(deviation,)] = station.rows(
        "select deviation from platform.drift where alarm and unit='batch' and feature='heat'"
    )
    assert deviation == told


@pytest.mark.requirement("SEN-8")
def test_a_batch_is_measured_once_and_evidence_accumulates_over_measurements(station: Station) -> None:
    days = [batch(f"{day}.csv", 60, shift=0.3, days=day) for day in range(4)]
    station.arrive(*days)
    at_once = station.measure()
    assert station.measure().reason == "no new rows have arrived since the last measurement"
    before = station.rows("select batch, feature, statistic, effect, alarm from platform.drift order by 1, 2")
    forget(station.database)
    again = Station(station.bench, station.database)
    for day in days:
        again.arrive(day)
        assert len(again.measure().batches) == 1
    assert again.rows("select batch, feature, statistic, effect, alarm from platform.drift order by 1, 2") == before
    assert len(at_once.batches) == 4


def test_the_measurement_of_a_day_is_replaced_when_a_batch_arrives(station: Station) -> None:
    station.arrive(batch("hot.csv", shift=2.0))
    station.measure()
    station.arrive(batch("usual.csv", 50, days=0.3))
    [day] = station.measure().days
    assert (day.rows, "heat" in day.alarm) == (150, True)
    assert station.rows("select n, alarm from platform.drift_batches where unit = 'day'") == [(150, True)]


@pytest.mark.requirement("SEN-8")
def test_batches_are_compared_with_the_champion(station: Station) -> None:
    station.bench.train(OTHER_SPEC)
    station.arrive(batch("a.csv"))
    assert station.measure().reference.version.version == 2  # type: ignore[union-attr]
    station.bench.registry.set_alias(SPEC.name, CHAMPION, 1)
    station.arrive(batch("b.csv", days=1))
    assert station.measure().reference.version.version == 1  # type: ignore[union-attr]
    assert station.rows("select name, version from platform.drift_batches where unit = 'batch' order by 1") == [
        ("a.csv", 2),
        ("b.csv", 1),
    ]


def test_evidence_is_dropped_if_the_model_has_different_training_rows(station: Station) -> None:
    # The new model has different training rows, so the evidence is reset. Otherwise, the third batch would increase the
    # evidence of the first two.
    station.arrive(*(batch(f"{hour}.csv", 60, shift=0.5, days=hour / 24) for hour in range(2)))
    first = station.measure().batches[-1].columns["heat"].evidence
    station.bench.train(OTHER_SPEC)
    station.arrive(batch("new.csv", 60, shift=0.5, days=0.2))
    [new] = station.measure().batches
    assert new.columns["heat"].evidence < first


def test_batches_are_compared_with_the_table_version_that_the_model_was_trained_on(station: Station) -> None:
    tables, registry, artefacts = station.bench.tables, station.bench.registry, station.bench.artefacts
    version = registry.version(SPEC.name, 1)
    before = read_reference(tables, artefacts, SPEC, version)
    station.bench.publish(station.bench.tables.read("somewhere/readings").assign(heat=99.0))
    after = read_reference(tables, artefacts, SPEC, version)
    np.testing.assert_array_equal(after.known["heat"], before.known["heat"])
    replaced = replace(version, table_digests={"somewhere/readings": "0" * 64})
    with pytest.raises(TrainingError, match="The table was replaced"):
        read_reference(tables, artefacts, SPEC, replaced)


def test_nothing_is_measured_without_new_rows_or_a_model_version(bench: Bench, station: Station) -> None:
    assert station.measure().reason == "the table somewhere/readings_incoming does not exist yet"
    bench.registry.__init__()  # type: ignore[misc]  # an empty registry
    assert "has no version yet" in station.measure().reason


def test_the_error_for_a_missing_feature_names_the_table_and_the_column(station: Station) -> None:
    station.arrive(batch("a.csv").drop(columns="noise"))
    with pytest.raises(TableError, match=r"somewhere/readings_incoming has no column 'noise', which is a feature of"):
        station.measure()
    with pytest.raises(TrainingError, match="declares no table of new rows"):
        station.monitor.measure(ONE_CANDIDATE, "a run")


def test_a_long_queue_of_batches_is_measured_in_parts(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "ROWS_AT_ONCE", 250)
    station.arrive(*(batch(f"{number}.csv", days=number / 100) for number in range(5)))
    assert [(len(one.batches), one.left) for one in (station.measure(), station.measure(), station.measure())] == [
        (2, 3),
        (2, 1),
        (1, 0),
    ]
    assert station.rows("select count(*) from platform.drift_batches where unit = 'batch'") == [(5,)]


def test_rows_that_cannot_be_scored_are_measured_with_unknown_performance(station: Station) -> None:
    rows = batch("odd.csv", 50)
    rows.loc[0, "noise"] = np.inf
    rows.loc[1, ["heat", "noise"]] = np.nan
    station.arrive(rows)
    [one] = station.measure().batches
    assert one.rows == 50
    assert one.performance.metrics is None
    assert "unknown: " in one.performance.told()


def test_two_concurrent_measurements_measure_each_batch_once(station: Station) -> None:
    station.arrive(*(batch(f"{number}.csv") for number in range(3)))
    results: list[int] = []
    other = Station(station.bench, station.database)

    def measure(one: Station) -> None:
        results.append(len(one.measure().batches))

    threads = [threading.Thread(target=measure, args=[station])]
    with station.database.lock(f"drift of {SPEC.name}"):
        threads[0].start()
    threads[0].join()
    measure(other)
    assert sorted(results) == [0, 3]
    assert station.rows(f"select count(*) from platform.drift_batches where unit = '{BATCH}'") == [(3,)]


def test_a_batch_that_becomes_visible_late_does_not_increase_the_elapsed_time(station: Station) -> None:
    station.arrive(batch("first.csv"), batch("newest.csv", days=0.9))
    station.measure()
    before = station.rows("select max(statistic) from platform.drift where batch like '%newest.csv'")
    station.arrive(batch("late.csv", days=0.2))
    [late] = station.measure().batches
    assert late.name == "late.csv"
    station.arrive(batch("next.csv", days=0.9))
    [after] = station.measure().batches
    # Without drift, evidence decreases with each row, and increases only with elapsed time.
    assert max(found.evidence for found in after.columns.values()) < before[0][0]


def test_a_day_of_many_rows_is_sampled(station: Station, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(monitor_module, "MOST_ROWS", 200)
    station.arrive(batch("usual.csv", 500), batch("hot.csv", 500, shift=2.0))
    [day] = station.measure().days
    assert day.rows == 1_000
    assert day.columns["heat"].effect == pytest.approx(0.38, abs=0.1)
