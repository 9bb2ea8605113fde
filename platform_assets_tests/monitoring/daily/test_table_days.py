"""Daily measurements of tables, and the alarms that a changed table raises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.monitoring.daily.judging import as_rows
from platform_assets.monitoring.daily.measurements import measure_tables, newest
from platform_assets.monitoring.daily.series import TABLE_SERIES, Point
from platform_assets.monitoring.daily.table_days import WatchedTable

if TYPE_CHECKING:
    from collections.abc import Iterator

TABLE = WatchedTable("somewhere/readings", "lake", ("id",))
NOW = datetime.now(UTC)
DAYS = 40
PER_CHECK = 10_000.0
KINDS = np.array(["a", "b", "c", "d", "e"])


class NoOnlineTables:
    """Stand-in for the online store of a platform that has no online tables."""

    def versions(self) -> list[Any]:
        return []


class Lake:
    """A lake with one table, and the history of the table's daily measurements."""

    def __init__(self, folder: Path) -> None:
        self.engine = Engine(folder)
        self.tables = TableStore(MEMORY, self.engine)
        self.history: pd.DataFrame | None = None

    def publish(self, rows: pd.DataFrame) -> None:
        with self.engine.stage(rows) as staged:
            self.tables.publish(TABLE.name, staged, metadata={})

    def measure(self, now: datetime = NOW) -> pd.DataFrame:
        online: Any = NoOnlineTables()
        self.history = measure_tables(self.tables, online, [TABLE], self.history, PER_CHECK, now)
        return self.history

    def alarms(self, now: datetime = NOW) -> dict[str, set[str]]:
        """Measure the table. Return, for each check with an alarm, the columns that raised it."""
        judged = newest(self.measure(now), TABLE_SERIES)
        alarmed = judged[judged["is_open"].astype(bool)]
        return {str(check): set(rows["column"]) for check, rows in alarmed.groupby("check")}


def readings(seed: int = 0, rows: int = 2_000) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "id": range(rows),
            "heat": np.where(random.random(rows) < 0.01, np.nan, random.normal(size=rows)),
            "kind": KINDS[random.integers(0, 5, rows)],
        }
    )


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    """Measurements of 40 days. On each day, the table was replaced by similar rows."""
    lake = Lake(tmp_path_factory.mktemp("known"))
    for day in range(3):
        lake.publish(readings(day))
        lake.measure(NOW - timedelta(days=DAYS + 3 - day))
    history = lake.history
    lake.engine.close()
    assert history is not None
    random = np.random.default_rng(0)
    last = history[history["day"] == history["day"].max()]
    parts = [history]
    for day in range(1, DAYS + 1):
        # Simulate each following day by adding noise to the values of the last real measurement.
        judged = last["judged"] + random.normal(size=len(last)) * last["noise"]
        parts.append(last.assign(day=last["day"].iloc[0] + timedelta(days=day), judged=judged))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture
def lake(tmp_path: Path, known: pd.DataFrame) -> Iterator[Lake]:
    lake = Lake(tmp_path)
    # Change the recorded version number, because a version that was already measured is not measured again.
    told = known["told"].str.replace("version 2", "version -1")
    lake.history = known.assign(told=told)
    yield lake
    lake.engine.close()


@pytest.mark.requirement("MON-2")
def test_similar_rows_raise_no_alarm_and_every_column_is_measured(lake: Lake) -> None:
    lake.publish(readings(7))
    assert lake.alarms() == {}
    today = lake.measure()
    today = today[today["day"] == NOW.date()]
    measured = set(zip(today["series"], today["column"], strict=True))
    assert measured == {
        *((series, "") for series in ("age", "columns", "failed", "rows")),
        *((series, "heat") for series in ("missing_share", "distinct", "smallest", "largest", "mean", "spread")),
        *((series, "kind") for series in ("missing_share", "distinct", "most_frequent_share")),
    }
    [row] = today[today["series"] == "rows"].to_dict("records")
    assert (row["value"], row["rows"], row["threshold"]) == (2_000, 2_000, PER_CHECK)
    assert today.loc[today["series"] == "mean", "threshold"].item() > PER_CHECK


@pytest.mark.requirement("MON-2")
@pytest.mark.parametrize(
    ("changed", "alarms"),
    [
        (lambda rows: rows.head(1_000), {"volume_is_as_usual": {""}}),
        (lambda rows: rows.assign(heat=rows["heat"].where(rows["id"] % 4 > 0)), {"completeness_is_as_usual": {"heat"}}),
        (lambda rows: rows.assign(kind=rows["kind"].replace("e", "a")), {"uniqueness_is_as_usual": {"kind"}}),
        (lambda rows: rows.assign(heat=rows["heat"].where(rows["id"] != 5, 1e4)), {"range_is_as_usual": {"heat"}}),
        (lambda rows: rows.assign(heat=rows["heat"] + 2.0), {"distribution_is_as_usual": {"heat"}}),
        (
            lambda rows: rows.assign(heat=1.0),
            {"distribution_is_as_usual": {"heat"}, "uniqueness_is_as_usual": {"heat"}},
        ),
    ],
    ids=["halved", "missing", "category vanished", "outlier", "shifted", "stuck"],
)
def test_a_change_raises_the_alarm_of_the_matching_check(lake: Lake, changed: Any, alarms: dict[str, set[str]]) -> None:
    lake.publish(changed(readings(7)))
    found = lake.alarms()
    assert alarms.items() <= found.items()


@pytest.mark.requirement("MON-2")
def test_changed_columns_are_reported_only_on_the_first_day(lake: Lake) -> None:
    lake.publish(readings(7).assign(colour="red"))
    assert lake.alarms()["schema_is_as_before"] == {""}
    lake.publish(readings(8).assign(colour="red"))
    assert "schema_is_as_before" not in lake.alarms(NOW + timedelta(days=1))


@pytest.mark.requirement("MON-2")
def test_only_the_age_of_a_table_without_a_new_version_is_measured(lake: Lake) -> None:
    lake.history = None
    lake.publish(readings())
    version = lake.tables.current(TABLE.name)
    assert version is not None
    lake.measure(NOW)
    then = version.committed_at + timedelta(days=1, hours=3)
    later = lake.measure(then)
    tomorrow = later[later["day"] == then.date()]
    assert set(tomorrow["series"]) == {"age", "failed"}
    assert tomorrow.loc[tomorrow["series"] == "age", "value"].item() == pytest.approx(27 + 1 / 60)


@pytest.mark.requirement("MON-2")
def test_a_table_that_is_older_than_usual_is_reported_as_late(lake: Lake) -> None:
    ages = [
        {**row, "alarm": False}
        for day in range(1, DAYS)
        for row in as_rows(
            TABLE.name, NOW.date() - timedelta(days=day), [Point("age", 4.0, judged=np.log(4.0), noise=0.1)]
        )
    ]
    lake.publish(readings())
    lake.history = pd.DataFrame(ages)
    lake.measure(NOW + timedelta(hours=4))
    judged = newest(lake.measure(NOW + timedelta(days=5)), TABLE_SERIES)
    assert judged.loc[judged["series"] == "age", "is_open"].tolist() == [True]


@pytest.mark.requirement("MON-2")
def test_an_unreadable_table_gives_a_failed_measurement(lake: Lake) -> None:
    lake.publish(readings(7))
    log = Path(lake.tables.uri(TABLE.name), "_delta_log", "00000000000000000000.json")
    log.write_text("not a commit")
    judged = newest(lake.measure(), TABLE_SERIES)
    failed = judged[judged["check"] == "measurements_are_complete"]
    assert failed["is_open"].all()
    assert failed["told"].item().startswith("not measured: ")
    assert TABLE.name in failed["told"].item()
