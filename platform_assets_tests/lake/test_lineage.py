"""Older rows never replace newer rows, in whatever order concurrent runs execute. Each version records its inputs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.lake.lineage import Lineage, StaleError
from platform_assets.lake.step_tables import StepTables
from platform_assets_tests.lake.sales_lake import Lake, by_month, contents, sales

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.engine.staged_files import Staged

SOURCE, HALVES, PARTS, SUM = "shop/source", "shop/halves", "shop/parts", "shop/sum"
STEPS = {SOURCE: [], HALVES: [SOURCE], PARTS: [SOURCE], SUM: [SOURCE, HALVES]}
NO_ONLINE: Any = None


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    engine = Engine(tmp_path_factory.mktemp("scratch"), "200MB", 1)
    yield engine
    engine.close()


@dataclass
class World:
    """A lake, the number of source files read so far, and the staged rows by partition and value."""

    store: TableStore
    engine: Engine
    file: int = 0
    staged: dict[tuple[str, int], Staged] = field(default_factory=dict)

    def rows(self, value: int, part: str = "") -> Staged:
        if (part, value) not in self.staged:
            frame = pd.DataFrame({"value": [value], **({"part": [part]} if part else {})})
            self.staged[part, value] = self.engine.stage(frame, "part" if part else None)
        return self.staged[part, value]

    def value(self, name: str, version: int | None = None) -> int:
        [value] = self.store.read(name, version=version).value
        return int(value)


class Run:
    """A run of four steps. Each step has two halves: read, then publish. The run ends when a step is refused."""

    def __init__(self, world: World, part: str) -> None:
        self.world, self.part = world, part
        self.refused: list[str] = []
        self._halves = self._work()

    def go_on(self) -> str | None:
        """Execute the next half of a step. Return the name of the published table, or None if none was published."""
        return next(self._halves, None)

    def _work(self) -> Iterator[str | None]:
        for name, inputs in STEPS.items():
            if any(self.world.store.current(source) is None for source in inputs):
                return
            step = StepTables(self.world.store, NO_ONLINE, inputs, {name: "lake"})
            value = self._value(name, step)
            yield None
            partitions = [self.part] if name == PARTS else []
            try:
                self.world.store.publish(
                    name,
                    self.world.rows(value, self.part if partitions else ""),
                    metadata={"value": value, "inputs": step.record()},
                    partitions=partitions,
                    lineage=step.lineage(name),
                )
            except StaleError:
                self.refused.append(name)
                return
            yield name

    def _value(self, name: str, step: StepTables) -> int:
        def read(source: str) -> int:
            [value] = step.store.read(source).value
            return int(value)

        if name == SOURCE:
            self.world.file += 1
            return self.world.file
        return {HALVES: lambda: read(SOURCE) // 2, PARTS: lambda: read(SOURCE)}.get(
            name, lambda: read(SOURCE) + read(HALVES)
        )()


@pytest.mark.requirement("PLT-7")
@settings(max_examples=8)
@given(spells=st.lists(st.tuples(st.integers(0, 2), st.integers(1, 6)), min_size=3, max_size=8))
# In these examples, the first run has read the inputs of a table when another run publishes that table.
@example(spells=[(0, 3), (1, 8)]).via("halves")
@example(spells=[(0, 5), (2, 8)]).via("parts")
@example(spells=[(0, 7), (1, 8)]).via("sum")
def test_older_rows_never_replace_newer_rows_in_any_interleaving_of_runs(
    engine: Engine, spells: list[tuple[int, int]]
) -> None:
    """A spell is a number of halves that one run executes before the next run continues."""
    world = World(TableStore(MEMORY, engine), engine)
    runs = [Run(world, part) for part in ("a", "b", "a")]
    newest: dict[tuple[str, str, str], int] = {}
    turns = [run for run, halves in spells for _ in range(halves)]
    for turn in [*turns, *([0, 1, 2] * 8)]:
        published = runs[turn].go_on()
        if published is None or (version := world.store.current(published)) is None:
            continue
        for part, made_from in version.made_from.items():
            for table, number in made_from.items():
                assert number >= newest.get((published, part, table), 0), "older rows replaced newer rows"
                newest[published, part, table] = number
    for name in (HALVES, SUM):
        if version := world.store.current(name):
            source = world.value(SOURCE, version.made_from[""][SOURCE])
            halves = world.value(HALVES, version.made_from[""][HALVES]) if name == SUM else 0
            assert world.value(name) == {HALVES: source // 2, SUM: source + halves}[name]
    if version := world.store.current(PARTS):
        rows = world.store.read(PARTS)
        for part, made_from in version.made_from.items():
            assert rows[rows.part == part].value.tolist() == [world.value(SOURCE, made_from[SOURCE])]
    # A run without concurrent runs is never refused.
    last = Run(world, "b")
    for _ in range(8):
        last.go_on()
    assert last.refused == []
    assert world.value(SOURCE) == world.file


def lineage(lake: Lake, **versions: int) -> Lineage:
    """Return the lineage of a step that read the given versions of the given tables."""
    inputs = {name: next(one for one in lake.store.versions(name) if one.version == n) for name, n in versions.items()}
    return Lineage(inputs, lake.store.current("shop/sales"), lambda name: _newest(lake, name))


def _newest(lake: Lake, name: str) -> int | None:
    version = lake.store.current(name)
    return version.version if version else None


@pytest.fixture
def lake(tmp_path: Path, engine: Engine) -> Lake:
    lake = Lake(TableStore(str(tmp_path / "lake"), engine), engine, str(tmp_path / "lake"), {})
    for amount in range(3):
        lake.publish(sales(amount), name="source")
    return lake


@pytest.mark.requirement("PLT-7")
def test_each_partition_is_compared_separately(lake: Lake) -> None:
    lake.publish(by_month(jan=1), "month", partitions=["jan"], lineage=lineage(lake, source=1))
    lake.publish(by_month(feb=2), "month", partitions=["feb"], lineage=lineage(lake, source=2))
    lake.publish(by_month(jan=3), "month", partitions=["jan"], lineage=lineage(lake, source=1))
    with pytest.raises(StaleError, match="from version 2 of source; this run read version 1"):
        lake.publish(by_month(feb=4), "month", partitions=["feb"], lineage=lineage(lake, source=1))
    with pytest.raises(StaleError):
        lake.publish(by_month(jan=5, feb=5), "month", lineage=lineage(lake, source=1))
    assert contents(lake.store.read("shop/sales")) == [("feb", 2.0), ("jan", 3.0)]


@pytest.mark.requirement("PLT-7")
def test_rows_from_older_inputs_cannot_fill_a_partition_that_became_empty(lake: Lake) -> None:
    lake.publish(by_month(jan=1, feb=1), "month", lineage=lineage(lake, source=0))
    lake.publish(by_month(feb=1).head(0), "month", partitions=["feb"], lineage=lineage(lake, source=2))
    with pytest.raises(StaleError):
        lake.publish(by_month(feb=3), "month", partitions=["feb"], lineage=lineage(lake, source=1))


def test_publishing_the_same_rows_from_older_inputs_changes_nothing(lake: Lake) -> None:
    newer = lake.publish(sales(7), lineage=lineage(lake, source=2))
    assert lake.publish(sales(7), lineage=lineage(lake, source=1)) == newer


def test_versions_of_a_restored_input_are_not_compared(lake: Lake) -> None:
    """The table was made from version 9 of its input, whose newest version is now 2, as after restoring a backup."""
    ahead = replace(lake.store.versions("source")[0], version=9)
    published = lake.publish(sales(2), lineage=Lineage({"source": ahead}, None, lambda _: 9))
    assert published.made_from == {"": {"source": 9}}
    lake.publish(sales(3), lineage=lineage(lake, source=2))
    assert contents(lake.store.read("shop/sales")) == [(0, 3.0)]
