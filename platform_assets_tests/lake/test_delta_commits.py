"""Publishing to Delta tables: partitions, concurrent writers, and writers that fail or are killed."""

from __future__ import annotations

import datetime as dt
import json
import re
import select
import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable

from platform_assets.base.errors import TableError
from platform_assets.base.scratch import clean_scratch
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import TableStore
from platform_assets_tests.lake import full_disk, lake_writer
from platform_assets_tests.lake.lake_writer import Job, work
from platform_assets_tests.lake.sales_lake import NAME, NOW, Lake, by_month, contents, sales
from platform_assets_tests.object_store import ObjectStore, running_object_store
from platform_assets_tests.small_disk import needs_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from platform_assets.lake.table_versions import TableVersion
    from platform_assets_tests.warm import WarmParent


WRITERS = ["anna", "berta", "carla", "doris"]
ROUNDS = 3


class Writer:
    """A process that publishes; see `lake_writer`."""

    def __init__(self, warm: WarmParent, scratch: Path) -> None:
        self._process = warm.start(lake_writer.main, scratch)

    def start(self, lake: Lake, **order: Any) -> None:
        self._process.stdin.write(json.dumps({"uri": lake.uri, "options": lake.options, **order}) + "\n")
        self._process.stdin.flush()

    def is_at_work(self) -> bool:
        return not select.select([self._process.stdout], [], [], 0)[0]

    def wait(self) -> None:
        assert self._process.stdout.readline() == "done\n"

    def end(self) -> int:
        self._process.stdin.close()
        with self._process as process:
            return process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@pytest.fixture(scope="module")
def processes(warm: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Writer]]:
    """Four processes that accept jobs."""
    scratch = tmp_path_factory.mktemp("scratch")
    with ExitStack() as stack:
        yield [stack.enter_context(Writer(warm, scratch)) for _ in WRITERS]


@pytest.mark.requirement("CRE-2")
def test_publishing_replaces_only_the_given_partitions(lake: Lake) -> None:
    first = lake.publish(by_month(jan=1, feb=2), "month")
    second = lake.publish(by_month(feb=3), "month", partitions=["feb"])
    assert contents(lake.store.read(NAME)) == [("feb", 3.0), ("jan", 1.0)]
    assert second.parts["jan"] == first.parts["jan"]
    assert second.rows == 2
    assert lake.publish(by_month(feb=3), "month", partitions=["feb"]) == second
    third = lake.publish(by_month(mar=4), "month", partitions=["mar", "feb"])
    assert contents(lake.store.read(NAME)) == [("jan", 1.0), ("mar", 4.0)]
    assert set(third.parts) == {"jan", "mar"}
    assert contents(lake.store.read(NAME, version=0)) == [("feb", 2.0), ("jan", 1.0)]
    assert lake.publish(by_month(apr=1), "month").parts.keys() == {"apr"}
    assert contents(lake.store.read(NAME)) == [("apr", 1.0)]


def test_a_partition_can_become_empty_and_be_filled_again(lake: Lake) -> None:
    lake.publish(by_month(jan=1), "month")
    empty = lake.publish(by_month(jan=1).head(0), "month", partitions=["jan"])
    assert (empty.rows, empty.parts) == (0, {})
    assert lake.publish(by_month(jan=1).head(0), "month") == empty
    renamed = lake.publish(by_month(jan=1).head(0).rename(columns={"amount": "x"}), "month")
    assert renamed.version == empty.version + 1
    assert lake.store.read(NAME).columns.tolist() == ["month", "x"]
    lake.publish(by_month(jan=1).head(0), "month")
    assert len(lake.store.read(NAME)) == 0
    lake.publish(by_month(jan=1), "month", partitions=["jan"])
    assert contents(lake.store.read(NAME)) == [("jan", 1.0)]


def test_the_digest_does_not_depend_on_whether_partitions_were_published_together(lake: Lake) -> None:
    whole = lake.publish(by_month(jan=1, feb=2), "month", name="whole")
    lake.publish(by_month(jan=1), "month", name="pieces", partitions=["jan"])
    pieces = lake.publish(by_month(feb=2), "month", name="pieces", partitions=["feb"])
    assert (pieces.digest, pieces.parts) == (whole.digest, whole.parts)


def test_rows_outside_the_given_partitions_are_refused(lake: Lake) -> None:
    kept = lake.publish(by_month(jan=1), "month")
    with pytest.raises(TableError, match=re.escape("rows of partitions ['mar'] are staged, but only ['feb'] are")):
        lake.publish(by_month(feb=1, mar=1), "month", partitions=["feb"])
    with pytest.raises(TableError, match="the staged rows have no partition column"):
        lake.publish(by_month(feb=1), partitions=["feb"])
    assert lake.store.current(NAME) == kept


def test_a_different_partition_column_is_refused(lake: Lake) -> None:
    kept = lake.publish(by_month(jan=1), "month")
    for by in (None, "amount_class"):
        with pytest.raises(TableError, match=re.escape("by ['month'], but the staged rows are partitioned by")):
            lake.publish(by_month(jan=1).assign(amount_class="low"), by)
    assert lake.store.current(NAME) == kept


def test_publishing_one_partition_may_add_columns_but_not_drop_or_retype_them(lake: Lake) -> None:
    lake.publish(by_month(jan=1), "month")
    for other in (by_month(feb=2)[["month"]].assign(x=1), by_month(feb=2).astype({"amount": "int64"})):
        with pytest.raises(
            TableError,
            match=re.escape("columns ['amount'] of shop/sales are missing from the staged rows, or have another"),
        ):
            lake.publish(other, "month", partitions=["feb"])
    lake.publish(by_month(feb=2).assign(note="new"), "month", partitions=["feb"])
    rows = lake.store.read(NAME).sort_values("month")
    assert rows[["month", "amount"]].to_dict("list") == {"month": ["feb", "jan"], "amount": [2.0, 1.0]}
    assert rows.note.fillna("none").tolist() == ["new", "none"]


def test_partition_values_may_be_any_text(lake: Lake) -> None:
    plain = ["2017-01", "2017-01-01", "7", "007", "true", "A", "a"]
    odd = ["a b", "a/b", "../a", "a%2Fb", "a=b", "a'b", 'a"b', "a,b", "日本 ñ", " ", ".", "a\nb", "*"]
    values = plain + odd
    rows = pd.DataFrame({"part": values, "amount": [float(number) for number in range(len(values))]})
    assert lake.publish(rows, "part").parts.keys() == set(values)
    lake.publish(rows.assign(amount=-1.0)[rows.part.isin(values[::2])], "part", partitions=values[::2])
    expected = {value: -1.0 if number % 2 == 0 else float(number) for number, value in enumerate(values)}
    assert contents(lake.store.read(NAME)) == sorted(expected.items())
    found = lake.store.scan(NAME)
    for value in values:
        assert found.filter(found.part == value).amount.to_pyarrow().to_pylist() == [expected[value]], value


@pytest.mark.parametrize("value", [None, "", "x" * 300])
def test_missing_empty_and_long_partition_values_are_refused(folder_lake: Lake, value: str | None) -> None:
    rows = pd.DataFrame({"part": ["a", value], "amount": [1.0, 2.0]})
    with pytest.raises(TableError, match="partition column part has a value that is missing, empty or too long"):
        folder_lake.publish(rows, "part")
    assert not folder_lake.store.exists(NAME)


@pytest.mark.parametrize(
    ("values", "arrow"),
    [
        ([1, -20], pa.int64()),
        ([dt.date(2017, 1, 1), dt.date(1999, 12, 31)], pa.date32()),
        ([True, False], pa.bool_()),
        (["2017-01-01", "12"], pa.string()),
    ],
)
def test_partition_columns_keep_their_type(lake: Lake, values: list[Any], arrow: pa.DataType) -> None:
    rows = pa.table({"part": pa.array(values, arrow), "amount": [1.0, 2.0]})
    lake.publish(rows.slice(1), "part")
    [replaced] = lake.publish(rows.slice(0, 1), "part", name="names").parts
    lake.publish(rows.slice(0, 1), "part", partitions=[replaced])
    found = lake.store.scan(NAME).order_by("amount").to_pyarrow()
    assert found.schema.field("part").type == arrow
    assert found.column("part").to_pylist() == values
    lake.publish(rows.slice(0, 0), "part", partitions=[replaced])
    assert lake.store.scan(NAME).part.to_pyarrow().to_pylist() == values[1:]


@pytest.mark.slow
@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("partitioned", [False, True])
def test_four_concurrent_writers_lose_no_version(
    request: pytest.FixtureRequest, lake: Lake, partitioned: bool, tmp_path: Path
) -> None:
    jobs = [Job(NAME, writer, ROUNDS, writer if partitioned else None) for writer in WRITERS]
    with _working(request, lake, jobs, tmp_path):
        pass
    versions = lake.store.versions(NAME)
    assert [version.version for version in versions] == [*range(len(WRITERS) * ROUNDS - 1, -1, -1)]
    turns = [(version.metadata["writer"], version.metadata["turn"]) for version in reversed(versions)]
    for writer in WRITERS:
        assert [turn for who, turn in turns if who == writer] == [*range(ROUNDS)]
    for version in versions:
        _assert_described(lake, version, "part" if partitioned else None)
    last = dict.fromkeys(WRITERS, ROUNDS - 1) if partitioned else dict(turns[-1:])
    found = lake.store.read(NAME).groupby("writer").size().to_dict()
    assert found == {writer: 100 + turn for writer, turn in last.items()}


@pytest.mark.requirement("PLT-7")
def test_readers_see_complete_versions_while_a_writer_publishes(
    request: pytest.FixtureRequest, lake: Lake, tmp_path: Path
) -> None:
    seen: list[int] = []
    with _working(request, lake, [Job(NAME, "anna", rounds=15)], tmp_path) as is_at_work:
        while is_at_work():
            if lake.store.current(NAME) is None:
                continue
            rows = lake.store.read(NAME)
            [turn] = set(rows.turn)
            assert len(rows) == 100 + turn
            seen.append(int(turn))
    assert seen == sorted(seen)
    assert len(set(seen)) > 1
    assert len(lake.store.read(NAME)) == 114


@pytest.mark.requirement("PLT-7", "PLT-10")
@pytest.mark.parametrize("is_first", [True, False])
@pytest.mark.parametrize(("rows", "remark"), [(50_000, ""), (10, "long " * 50_000)], ids=["file", "commit"])
def test_a_killed_writer_leaves_the_last_version_readable(
    folder_lake: Lake, is_first: bool, rows: int, remark: str, warm: WarmParent, tmp_path: Path
) -> None:
    lake = folder_lake
    last = None if is_first else lake.publish(sales(1))
    folder = Path(lake.store.uri(NAME))
    files = _files(folder)
    writer = Writer(warm, tmp_path / "scratch")
    writer.start(lake, dies={"table": NAME, "rows": rows, "remark": remark})
    assert writer.end() == -signal.SIGXFSZ
    assert _files(folder) > files
    assert lake.store.current(NAME) == last
    if last is None:
        with pytest.raises(TableError, match="no table shop/sales yet"):
            lake.store.read(NAME)
    else:
        assert contents(lake.store.read(NAME)) == [(0, 1.0)]
    assert lake.publish(sales(2)).version == (0 if is_first else 1)
    assert contents(lake.store.read(NAME)) == [(0, 2.0)]
    removed = _files(folder) - {Path(file) for file in DeltaTable(str(folder)).file_uris()}
    assert len(removed) == (1 if is_first else 2) + len(list(folder.glob("_delta_log/*.json#*")))
    assert lake.store.vacuum(NAME, NOW) == len(removed)
    assert not removed & _files(folder)
    # Only the killed writer's scratch folder is removed, because the folder of this process's engine is in use.
    assert clean_scratch(tmp_path / "scratch") == 1


def test_rows_are_not_published_if_the_store_refuses_their_file(object_store: ObjectStore, engine: Engine) -> None:
    """Without a check, the error would be lost: Arrow ignores errors when it copies a small file to an object store."""
    uri = object_store.lake()
    good = Lake(TableStore(uri, engine, object_store.options), engine, uri, object_store.options)
    last = good.publish(sales(1))
    with running_object_store(behind=object_store.endpoint, refused=".parquet") as bad_line:
        store = TableStore(uri, engine, bad_line.options)
        with engine.stage(sales(2)) as staged, pytest.raises(TableError, match="the store refused or truncated"):
            store.publish(NAME, staged)
    assert good.store.current(NAME) == last
    assert contents(good.store.read(NAME)) == [(0, 1.0)]


@needs_root
@pytest.mark.parametrize("full", ["lake", "scratch"])
def test_a_full_disk_gives_an_error_and_the_last_version_stays_current(
    full: str, warm: WarmParent, tmp_path: Path
) -> None:
    for folder in ("lake", "scratch"):
        (tmp_path / folder).mkdir()
    with warm.start(full_disk.main, tmp_path / full, tmp_path / "lake", tmp_path / "scratch") as process:
        found = json.loads(process.stdout.read())
        assert process.wait() == 0
    assert re.search(f"no space left on {tmp_path / full}", found["error"]), found
    assert found["rows_before"] == found["rows_after"] == 10
    assert found["version"] == 0
    assert found["files_of_the_failed_writer"] == 0
    assert found["next_version"] == 1


def _files(folder: Path) -> set[Path]:
    return {*folder.glob("*.parquet*"), *folder.glob("_delta_log/*#*")}


def _assert_described(lake: Lake, version: TableVersion, by: str | None) -> None:
    with lake.engine.stage(lake.store.scan(NAME, version=version.version), by) as staged:
        assert {value: (part.digest, part.rows) for value, part in staged.parts.items()} == version.parts
        assert (staged.digest, staged.rows) == (version.digest, version.rows)


@contextmanager
def _working(
    request: pytest.FixtureRequest, lake: Lake, jobs: list[Job], scratch: Path
) -> Iterator[Callable[[], bool]]:
    """Start one writer per job, each in its own process, or in a thread if the lake is in memory."""
    if lake.is_shared:
        writers: list[Writer] = request.getfixturevalue("processes")[: len(jobs)]
        for writer, job in zip(writers, jobs, strict=True):
            writer.start(lake, job=asdict(job))
        yield lambda: any(writer.is_at_work() for writer in writers)
        for writer in writers:
            writer.wait()
        return
    with ThreadPoolExecutor(len(jobs)) as pool:
        # The threads share the store, but each thread needs its own engine.
        futures = [pool.submit(work, lake.store, Engine(scratch, "200MB", 1), job) for job in jobs]
        yield lambda: not all(future.done() for future in futures)
        for future in futures:
            future.result()
