"""Tests of the digest of a reading, the model's examples, the newest decision for each device, and silent devices."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd
import pytest

from platform_assets.domains.sensor_maintenance.features import newest_per_device, reading, silent_devices
from platform_assets.domains.sensor_maintenance.schemas import DEVICES, PREDICTIONS
from platform_assets_tests.domains.sensor_maintenance.histories import demo_history, examples_of
from platform_assets_tests.queries import Query

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine


@pytest.mark.requirement("SEN-2")
def test_a_reading_is_identified_by_a_digest_of_its_values(engine: Engine) -> None:
    table = engine.as_expression(
        pd.DataFrame({"row": [1, 2, 3], "sensor_1": [-0.25, 0.0, -0.0], "sensor_2": [1e6, 1 / 3, 1 / 3]})
    )
    found = table.select("row", reading=reading(table)).order_by("row").to_pyarrow()["reading"].to_pylist()
    # The expected texts are literals, because a change to the hashed texts would change the test set.
    texts = ["-250000000|1000000000000000", "0|333333333", "0|333333333"]
    assert found == [hashlib.sha256(text.encode()).hexdigest() for text in texts]


def test_examples_keep_their_ids_when_the_file_is_reordered_and_extended(engine: Engine, tmp_path: Path) -> None:
    history = demo_history(tmp_path, 200)
    history = pd.concat([history, history.head(20)], ignore_index=True).assign(row=range(len(history) + 20))
    before = examples_of(engine, history)
    assert before["example"].is_unique
    assert list(before.columns) == ["sensor_1", "sensor_2", "label", "reading", "example"]
    more = history.sample(frac=1, random_state=1).assign(sensor_1=lambda rows: rows["sensor_1"] + 10)
    both = pd.concat([more, history.sample(frac=1, random_state=2)], ignore_index=True)
    after = examples_of(engine, both.assign(row=range(len(both))))
    kept = after[after["example"].isin(before["example"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(kept, before)


MIDNIGHT = datetime(2026, 3, 1, tzinfo=UTC)


def decided(device: str, digest: str, line: int, recorded: float | None, predicted: float) -> dict[str, Any]:
    """Return a row of the predictions; the times are hours after midnight."""
    return {
        **dict.fromkeys((column.name for column in PREDICTIONS.columns), None),
        "device": device,
        "file_digest": digest,
        "line": line,
        "recorded_at": None if recorded is None else MIDNIGHT + timedelta(hours=recorded),
        "predicted_at": MIDNIGHT + timedelta(hours=predicted),
    }


newest = Query(ibis.schema({column.name: column.type for column in PREDICTIONS.columns}), newest_per_device)


@pytest.mark.requirement("SEN-6")
@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        # A late file does not replace a newer reading.
        ([("p", "a", 2, 5, 6), ("p", "b", 2, 3, 9)], {"p": ("a", 2)}),
        # If the time of the reading is unknown, the time of the prediction is used.
        ([("p", "a", 2, 5, 6), ("p", "b", 2, None, 7)], {"p": ("b", 2)}),
        ([("p", "a", 2, 5, 8), ("p", "b", 2, None, 4)], {"p": ("a", 2)}),
        # If the reading is later than its prediction, the time of the prediction is used.
        ([("p", "a", 2, 500, 6), ("p", "b", 2, 7, 8)], {"p": ("b", 2)}),
        # Ties are resolved by the later prediction, then the larger digest, then the later line.
        ([("p", "b", 2, 5, 6), ("p", "a", 2, 5, 7)], {"p": ("a", 2)}),
        ([("p", "b", 2, 5, 6), ("p", "a", 9, 5, 6)], {"p": ("b", 2)}),
        ([("p", "a", 9, 5, 6), ("p", "a", 10, 5, 6)], {"p": ("a", 10)}),
        ([("p", "a", 2, 5, 6), ("q", "a", 3, None, 6), ("p", "a", 4, 4, 6)], {"p": ("a", 2), "q": ("a", 3)}),
        ([], {}),
    ],
)
def test_the_newest_decision_is_selected_for_each_device(
    rows: list[tuple[str, str, int, float | None, float]], expected: dict[str, tuple[str, int]]
) -> None:
    for order in (rows, rows[::-1]):
        found = newest(decided(*row) for row in order)
        assert {row["device"]: (row["file_digest"], row["line"]) for row in found} == expected
        assert all([*row] == [column.name for column in DEVICES.columns] for row in found)


silent = Query(
    ibis.schema({column.name: column.type for column in DEVICES.columns}), lambda devices: silent_devices(devices, 48)
)


@pytest.mark.requirement("MON-2")
@pytest.mark.parametrize(
    ("times", "expected"),
    [
        # The limit is exclusive, and silence is counted up to the newest reading of any device.
        ({"p": (0, 1), "q": (48, 49)}, []),
        ({"p": (0, 1), "q": (48.01, 49)}, [("p", 48)]),
        # The longest silence comes first. After 30 days, a device is no longer reported.
        ({"p": (720, 721), "q": (600, 601), "r": (0, 1)}, [("r", 720), ("q", 120)]),
        ({"p": (720.01, 721), "q": (600, 601), "r": (0, 1)}, [("q", 120)]),
        # A clock that is ahead does not make the other devices silent.
        ({"p": (0, 1), "q": (900, 10)}, []),
        ({"p": (0, 500), "q": (9000, 500), "r": (40, 500)}, []),
        ({"p": (0, 500), "q": (9000, 500), "r": (100, 500)}, [("p", 100)]),
        # A reading that is at most a day later than its prediction can be the newest of all devices. A later one can be
        # the newest only if the newest reading of every device is that late.
        ({"p": (0, 1), "q": (84, 60)}, [("p", 60)]),
        ({"p": (0, 1), "q": (84.01, 60)}, []),
        ({"p": (9000, 1), "q": (9100, 100)}, [("p", 99)]),
        # A device whose clock is ahead can be silent too.
        ({"p": (900, 10), "q": (100, 101)}, [("p", 90)]),
        # Devices without times are not examined.
        ({"p": (None, 1), "q": (None, 500)}, []),
        ({"p": (0, 1), "q": (None, 500), "r": (100, 101)}, [("p", 100)]),
        ({}, []),
    ],
)
def test_a_device_is_silent_if_others_sent_readings_since(
    times: dict[str, tuple[float | None, float]], expected: list[tuple[str, int]]
) -> None:
    rows = [decided(device, "a", 2, *hours) for device, hours in times.items()]
    found = silent({name: row[name] for name in (column.name for column in DEVICES.columns)} for row in rows)
    assert [(row["device"], row["hours"]) for row in found] == expected
    newest_of = {row["device"]: min(row["recorded_at"], row["predicted_at"]) for row in rows if row["recorded_at"]}
    assert all(row["newest_reading"] == newest_of[row["device"]] for row in found)


@pytest.mark.requirement("MON-2")
def test_readings_of_an_unknown_device_are_never_silent() -> None:
    rows = [decided(device, "a", 2, hour, 200) for device, hour in {"p": 0, "1.csv": 0, "q": 100}.items()]
    given = [{name: row[name] for name in (column.name for column in DEVICES.columns)} for row in rows]
    names = {"p": "p/1.csv", "1.csv": "1.csv", "q": "q/1.csv"}
    found = silent({**row, "file_name": names[row["device"]]} for row in given)
    assert [row["device"] for row in found] == ["p"]
