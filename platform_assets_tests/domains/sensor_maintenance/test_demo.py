"""The sample readings are reproducible and resemble the real history."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from platform_assets.domains.sensor_maintenance.demo import COLUMNS, DRIFTING, ROWS, generate, write_incoming
from platform_assets.domains.sensor_maintenance.sources import HISTORY as SOURCE
from platform_assets.landing.declared_sources import Sources
from platform_assets.monitoring.drift.evidence import ColumnDetector
from platform_assets.monitoring.drift.rulers import NumberRuler
from platform_assets.settings import Settings
from platform_assets_tests.domains.sensor_maintenance.histories import HISTORY, demo_history, history_of

READINGS = ["sensor_1", "sensor_2"]


def test_the_same_number_of_rows_and_seed_give_the_same_file(tmp_path: Path) -> None:
    one = generate(tmp_path / "one.csv", 1_000).read_bytes()
    assert generate(tmp_path / "again.csv", 1_000).read_bytes() == one
    assert generate(tmp_path / "other.csv", 1_000, seed=1).read_bytes() != one
    assert one.decode().splitlines()[0] == ",".join(COLUMNS)


@pytest.mark.parametrize("rows", [1, 2, 99, 1_500])
def test_a_file_has_the_requested_number_of_lines(tmp_path: Path, rows: int) -> None:
    assert len(generate(tmp_path / "history.csv", rows).read_text(encoding="utf-8").splitlines()) == 1 + rows


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot generate 0 demo readings"):
        generate(tmp_path / "history.csv", 0)


@pytest.mark.requirement("PLT-3")
@pytest.mark.parametrize("wanted", [100, 20_000])
def test_the_demo_history_always_has_the_same_number_of_readings(tmp_path: Path, wanted: int) -> None:
    found = Sources(Settings(home=tmp_path, demo_rows=wanted)).find(SOURCE)
    assert len(Path(found.uri).read_text(encoding="utf-8").splitlines()) == 1 + ROWS


@pytest.mark.requirement("OPS-4", "MON-1")
def test_the_first_drift_alarm_occurs_at_the_sample_file_of_the_drifting_device(tmp_path: Path) -> None:
    history = demo_history(tmp_path, ROWS)
    rulers = [NumberRuler(history[name].to_numpy()) for name in READINGS]
    detectors = [ColumnDetector(ruler, len(rulers), Settings().drift_false_alarm_days) for ruler in rulers]
    alarms = []
    for file in write_incoming(tmp_path / "zone"):
        # The last reading of one file is a word.
        readings = pd.read_csv(file)[READINGS].apply(pd.to_numeric, errors="coerce").dropna().to_numpy()
        found = [detector.add(readings[:, place], days=1) for place, detector in enumerate(detectors)]
        alarms.append(any(one.alarm for one in found))
    assert alarms.index(True) == DRIFTING - 1


def shape(history: pd.DataFrame) -> list[float]:
    """Return the means and standard deviations of the readings, overall and by class, and the mean of the label."""
    of_classes = history.groupby("label")[READINGS]
    return [
        *history[READINGS].mean(),
        *history[READINGS].std(),
        history["label"].mean(),
        *of_classes.mean().to_numpy().ravel(),
        *of_classes.std().to_numpy().ravel(),
    ]


def test_sample_readings_are_standardised_and_classes_are_equally_frequent(tmp_path: Path) -> None:
    found = shape(demo_history(tmp_path, 20_000))
    assert found[:5] == pytest.approx([0, 0, 1, 1, 0.5], abs=0.02)


@pytest.mark.real_data
def test_the_sample_has_the_means_and_standard_deviations_of_the_real_history(real_data: Path, tmp_path: Path) -> None:
    assert shape(demo_history(tmp_path, 20_000)) == pytest.approx(shape(history_of(real_data / HISTORY)), abs=0.06)
