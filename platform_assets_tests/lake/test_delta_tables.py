"""The contract of the lake, held to by a folder, by memory, and by an object store alike."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import re
import select
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import pandas as pd
import pyarrow as pa
import pytest
from deltalake import DeltaTable, write_deltalake

from platform_assets.base.errors import TableError
from platform_assets.base.scratch import clean_scratch
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets_tests.lake import full_disk, lake_writer
from platform_assets_tests.lake.lake_writer import Job, work
from platform_assets_tests.object_store import SECRET, ObjectStore, running_object_store
from platform_assets_tests.small_disk import needs_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from platform_assets.base.frames import Frame
    from platform_assets.lake.table_versions import TableVersion
    from platform_assets_tests.warm import WarmParent

# Ibis 12 calls DuckDB 2 by names that it will lose.

NAME = "shop/sales"
WRITERS = ["anna", "berta", "carla", "doris"]
ROUNDS = 3
NOW = timedelta(0)


@dataclass
class Lake:
    """A store, and what another process needs to open the same one."""

    store: TableStore
    engine: Engine
    uri: str
    options: dict[str, str]

    @property
    def is_shared(self) -> bool:
        return not self.uri.startswith(MEMORY)

    def publish(self, rows: Any, by: str | None = None, name: str = NAME, **more: Any) -> TableVersion:
        with self.engine.stage(rows, by) as staged:
            return self.store.publish(name, staged, **more)


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
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as store:
        yield store


@pytest.fixture(scope="module")
def processes(warm: WarmParent, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Writer]]:
    """Four processes that wait for jobs."""
    scratch = tmp_path_factory.mktemp("scratch")
    with ExitStack() as stack:
        yield [stack.enter_context(Writer(warm, scratch)) for _ in WRITERS]


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    engine = Engine(tmp_path / "scratch", "200MB", 1)
    yield engine
    engine.close()


@pytest.fixture(params=["folder", "memory", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path, engine: Engine) -> Lake:
    options: dict[str, str] = {}
    if request.param == "s3":
        server: ObjectStore = request.getfixturevalue("object_store")
        uri, options = server.lake(), server.options
    else:
        uri = MEMORY if request.param == "memory" else str(tmp_path / "a 'lake'=1 [x]")
    return Lake(TableStore(uri, engine, options), engine, uri, options)


@pytest.fixture
def folder_lake(tmp_path: Path, engine: Engine) -> Lake:
    uri = str(tmp_path / "lake")
    return Lake(TableStore(uri, engine), engine, uri, {})


def sales(*amounts: float) -> Frame:
    return pd.DataFrame({"id": range(len(amounts)), "amount": [float(amount) for amount in amounts]})


def by_month(**amounts: float) -> Frame:
    return pd.DataFrame({"month": [*amounts], "amount": [float(amount) for amount in amounts.values()]})


def contents(frame: Frame) -> list[tuple[Any, ...]]:
    return sorted(frame.itertuples(index=False, name=None))


# One writer


@pytest.mark.requirement("CRE-2")
def test_what_is_published_is_read_and_described(lake: Lake) -> None:
    assert lake.store.current(NAME) is None
    assert not lake.store.exists(NAME)
    before = dt.datetime.now(dt.UTC).replace(microsecond=0)
    published = lake.publish(sales(1, 2, 3), metadata={"asset": NAME, "demo": True})
    assert lake.store.exists(NAME)
    assert lake.store.current(NAME) == published
    assert lake.store.versions(NAME) == [published]
    assert (published.name, published.version, published.rows) == (NAME, 0, 3)
    assert published.metadata == {"asset": NAME, "demo": True}
    assert before <= published.committed_at <= dt.datetime.now(dt.UTC)
    assert contents(lake.store.read(NAME)) == [(0, 1.0), (1, 2.0), (2, 3.0)]
    assert lake.store.read(NAME, columns=["amount"]).columns.tolist() == ["amount"]
    assert lake.store.scan(NAME).count().to_pyarrow().as_py() == 3


@pytest.mark.requirement("PLT-7")
def test_the_same_rows_make_no_new_version_in_any_order_or_file_layout(lake: Lake, tmp_path: Path) -> None:
    first = lake.publish(sales(1, 2, 3))
    backwards = lake.publish(sales(1, 2, 3).iloc[::-1], metadata={"run": "another"})
    files = [tmp_path / f"{row}.parquet" for row in range(3)]
    for row, file in enumerate(files):
        sales(1, 2, 3).iloc[[row]].to_parquet(file, index=False)
    in_pieces = lake.publish(lake.engine.parquet(*files))
    assert backwards == in_pieces == first
    assert lake.store.versions(NAME) == [first]


@pytest.mark.requirement("PLT-7")
def test_changed_rows_make_a_version_and_the_old_one_stays_readable(lake: Lake) -> None:
    old = lake.publish(sales(1, 2))
    new = lake.publish(sales(1, 3))
    assert new.digest != old.digest
    assert lake.store.versions(NAME) == [new, old]
    assert lake.store.versions(NAME, limit=1) == [new]
    assert contents(lake.store.read(NAME)) == [(0, 1.0), (1, 3.0)]
    assert contents(lake.store.read(NAME, version=old.version)) == [(0, 1.0), (1, 2.0)]
    back = lake.publish(sales(1, 2))
    assert (back.version, back.digest) == (2, old.digest)


def test_a_new_schema_replaces_the_old_one(lake: Lake) -> None:
    lake.publish(sales(1))
    lake.publish(pd.DataFrame({"amount": ["much"], "at": [pd.Timestamp("2017-01-01 10:00")]}))
    assert lake.store.read(NAME).to_dict("list") == {"amount": ["much"], "at": [pd.Timestamp("2017-01-01 10:00")]}
    assert lake.store.read(NAME, version=0).to_dict("list") == {"id": [0], "amount": [1.0]}


def test_an_empty_table_keeps_its_columns(lake: Lake) -> None:
    published = lake.publish(sales(1).head(0))
    assert published.rows == 0
    assert dict(lake.store.read(NAME).dtypes) == {"id": "int64", "amount": "float64"}
    assert lake.publish(sales(1).head(0)) == published
    assert lake.publish(sales(1).head(0).rename(columns={"id": "key"})).version == 1
    assert lake.store.read(NAME).columns.tolist() == ["key", "amount"]


def test_an_expression_of_a_table_may_be_published_to_the_same_table(lake: Lake) -> None:
    lake.publish(sales(1, 2, 3))
    rows = lake.store.scan(NAME)
    lake.publish(rows.filter(rows.amount > 1))
    assert contents(lake.store.read(NAME)) == [(1, 2.0), (2, 3.0)]
    assert rows.count().to_pyarrow().as_py() == 3


def test_tables_have_names_with_folders_and_do_not_mix(lake: Lake) -> None:
    lake.publish(sales(1), name="shop/sales")
    lake.publish(sales(2), name="shop/sales_quarantine")
    assert lake.store.uri("shop/sales") != lake.store.uri("shop/sales_quarantine")
    assert contents(lake.store.read("shop/sales")) == [(0, 1.0)]
    assert not lake.store.exists("shop")


def test_a_missing_table_or_version_is_named(lake: Lake) -> None:
    for reads in (lake.store.read, lake.store.scan, lake.store.versions):
        with pytest.raises(TableError, match="no table shop/sales yet; materialise the asset first"):
            reads(NAME)
    with pytest.raises(TableError, match="no table shop/sales yet"):
        lake.store.vacuum(NAME, NOW)
    lake.publish(sales(1))
    for version in (7, -1):
        with pytest.raises(TableError, match=f"shop/sales has no version {version}; the newest is 0"):
            lake.store.read(NAME, version=version)


def test_the_log_is_understood_beyond_its_checkpoints(folder_lake: Lake) -> None:
    folder_lake.publish(sales(0))
    # The hundredth version would have the first one by itself.
    DeltaTable(folder_lake.store.uri(NAME)).alter.set_table_properties({"delta.checkpointInterval": "5"})
    for turn in range(2, 13):
        folder_lake.publish(sales(turn))
    assert len(list(Path(folder_lake.uri).glob(f"{NAME}/_delta_log/*.checkpoint.parquet"))) == 2
    current = folder_lake.store.current(NAME)
    assert current is not None
    assert current.version == 12
    assert contents(folder_lake.store.read(NAME, version=3)) == [(0, 3.0)]
    assert [version.version for version in folder_lake.store.versions(NAME)] == [*range(12, 1, -1), 0]


def test_what_another_program_changed_is_not_taken_for_ours(folder_lake: Lake) -> None:
    folder_lake.publish(sales(1, 2))
    DeltaTable(folder_lake.store.uri(NAME)).delete("id = 0")
    with pytest.raises(TableError, match=r"changed by another program \(DELETE after version 0\)"):
        folder_lake.publish(sales(1, 2))
    write_deltalake(folder_lake.store.uri("other"), pa.table({"a": [1]}))
    with pytest.raises(TableError, match="not written by the platform"):
        folder_lake.store.current("other")


# Partitions


@pytest.mark.requirement("CRE-2")
def test_partitions_are_replaced_by_value(lake: Lake) -> None:
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


def test_partitions_become_empty_and_full_again(lake: Lake) -> None:
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


def test_a_partitioned_table_of_partitions_has_the_digest_of_the_whole(lake: Lake) -> None:
    whole = lake.publish(by_month(jan=1, feb=2), "month", name="whole")
    lake.publish(by_month(jan=1), "month", name="pieces", partitions=["jan"])
    pieces = lake.publish(by_month(feb=2), "month", name="pieces", partitions=["feb"])
    assert (pieces.digest, pieces.parts) == (whole.digest, whole.parts)


def test_rows_outside_the_named_partitions_are_refused(lake: Lake) -> None:
    kept = lake.publish(by_month(jan=1), "month")
    with pytest.raises(TableError, match=re.escape("rows of partitions ['mar'] among those of ['feb']")):
        lake.publish(by_month(feb=1, mar=1), "month", partitions=["feb"])
    with pytest.raises(TableError, match="staged without any"):
        lake.publish(by_month(feb=1), partitions=["feb"])
    assert lake.store.current(NAME) == kept


def test_another_partitioning_is_refused(lake: Lake) -> None:
    kept = lake.publish(by_month(jan=1), "month")
    for by in (None, "amount_class"):
        with pytest.raises(TableError, match=re.escape("is partitioned by ['month'], the rows by")):
            lake.publish(by_month(jan=1).assign(amount_class="low"), by)
    assert lake.store.current(NAME) == kept


def test_a_partition_may_add_columns_but_not_lose_or_change_them(lake: Lake) -> None:
    lake.publish(by_month(jan=1), "month")
    for other in (by_month(feb=2)[["month"]].assign(x=1), by_month(feb=2).astype({"amount": "int64"})):
        with pytest.raises(TableError, match=re.escape("columns ['amount'] of shop/sales are missing, or of another")):
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
def test_partition_values_that_cannot_be_kept_are_refused(folder_lake: Lake, value: str | None) -> None:
    rows = pd.DataFrame({"part": ["a", value], "amount": [1.0, 2.0]})
    with pytest.raises(TableError, match="partition column part has a value that is missing, empty or very long"):
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


# What rows may hold


def test_types_come_back_as_they_went_in_and_as_documented(lake: Lake) -> None:
    madrid = pd.Timestamp("2017-03-26 03:00", tz="Europe/Madrid")
    rows = pa.table(
        {
            "small": pa.array([1, None], pa.int8()),
            "unsigned": pa.array([2**32 - 1, None], pa.uint32()),
            "real": pa.array([float("inf"), None], pa.float64()),
            "amount": pa.array([decimal.Decimal("12.30"), None], pa.decimal128(10, 2)),
            "text": pa.array(["ñ", None]),
            "category": pa.array(["x", None]).dictionary_encode(),
            "raw": pa.array([b"\0", None]),
            "yes": pa.array([True, None]),
            "day": pa.array([dt.date(3021, 1, 1), None]),
            "local": pa.array([dt.datetime(2017, 3, 26, 3, 0, 0, 1), None], pa.timestamp("us")),
            "coarse": pa.array([dt.datetime(2017, 3, 26), None], pa.timestamp("s")),
            "instant": pa.array([madrid, None], pa.timestamp("ns", "Europe/Madrid")),
        }
    )
    lake.publish(rows)
    found = lake.store.scan(NAME).order_by("small").to_pyarrow()
    expected = {
        "unsigned": pa.array([2**32 - 1, None], pa.int64()),
        "category": pa.array(["x", None]),
        "coarse": pa.array([dt.datetime(2017, 3, 26), None], pa.timestamp("us")),
        "instant": pa.array([madrid, None], pa.timestamp("us", "UTC")),
    }
    for column in rows.schema.names:
        wanted = expected.get(column, rows.column(column).combine_chunks())
        assert found.column(column).combine_chunks().equals(wanted), column


def test_only_the_partitions_and_columns_asked_for_are_read(folder_lake: Lake) -> None:
    folder_lake.publish(by_month(jan=1, feb=2), "month")
    table = DeltaTable(folder_lake.store.uri(NAME))
    rows = folder_lake.store.scan(NAME)
    january = rows.filter(rows.month == "jan").amount
    [(_, plan)] = folder_lake.engine.sql(f"EXPLAIN {folder_lake.engine.ibis.compile(rows.amount)}")
    assert "month" not in plan
    [february] = table.file_uris(file_pruning_predicate="month = 'feb'")
    Path(february).unlink()
    assert january.to_pyarrow().to_pylist() == [1.0]
    with pytest.raises(TableError, match="shop/sales .* cannot be read"):
        folder_lake.store.read(NAME)


# Vacuum


@pytest.mark.requirement("PLT-10")
def test_vacuum_keeps_the_retention_and_the_versions_named(lake: Lake) -> None:
    for amount in range(4):
        lake.publish(sales(amount))
    assert lake.store.vacuum(NAME, timedelta(days=1)) == 0
    assert lake.store.vacuum(NAME, NOW, keep_versions=[1]) == 2
    assert contents(lake.store.read(NAME, version=1)) == [(0, 1.0)]
    assert contents(lake.store.read(NAME)) == [(0, 3.0)]
    for version in (0, 2):
        with pytest.raises(TableError, match=f"version {version} of shop/sales .* removed after the retention"):
            lake.store.read(NAME, version=version)
    assert [version.rows for version in lake.store.versions(NAME)] == [1, 1, 1, 1]
    assert lake.store.vacuum(NAME, NOW) == 1


@pytest.mark.requirement("PLT-10")
def test_vacuum_removes_what_was_replaced_before_the_retention(folder_lake: Lake) -> None:
    """The log is made 2:45 hours older; the newest version is replaced after that."""
    for amount in range(3):
        folder_lake.publish(sales(amount))
    _age(Path(folder_lake.store.uri(NAME)), timedelta(hours=2, minutes=45))
    folder_lake.publish(sales(3))
    # Delta counts whole hours; two and a half become three, never less than was asked for.
    assert folder_lake.store.vacuum(NAME, timedelta(hours=3, minutes=-30)) == 0
    assert folder_lake.store.vacuum(NAME, timedelta(hours=2)) == 2
    assert contents(folder_lake.store.read(NAME, version=2)) == [(0, 2.0)]
    with pytest.raises(TableError, match="version 1 of shop/sales"):
        folder_lake.store.read(NAME, version=1)


@pytest.mark.requirement("PLT-10")
def test_publishing_goes_on_after_a_vacuum(lake: Lake) -> None:
    lake.publish(sales(1))
    second = lake.publish(sales(2))
    lake.store.vacuum(NAME, NOW)
    assert lake.store.current(NAME) == second
    assert lake.publish(sales(2)) == second
    third = lake.publish(sales(3))
    assert third.version > second.version
    assert lake.store.current(NAME) == third
    assert contents(lake.store.read(NAME, version=third.version)) == [(0, 3.0)]


# Several at once


@pytest.mark.slow
@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("partitioned", [False, True])
def test_of_four_writers_nothing_is_lost(
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
def test_readers_see_one_whole_version_while_a_writer_publishes(
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
def test_a_writer_killed_in_the_middle_leaves_the_last_version(
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
    # Its scratch folder is still there, beside that of this process's engine, and is known as litter.
    assert clean_scratch(tmp_path / "scratch") == 1


# What goes wrong outside


@pytest.mark.requirement("PLT-8")
def test_an_unreachable_store_is_named_without_secrets_and_soon(engine: Engine) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = TableStore("s3://nowhere/lake", engine, ObjectStore(endpoint).options)
    with pytest.raises(TableError, match="shop/sales in s3://nowhere/lake cannot be opened: .*127.0.0.1") as caught:
        store.read(NAME)
    # Not the three minutes of the client's own.
    assert "retry_timeout 20s" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_failures_that_pass_are_not_noticed(object_store: ObjectStore, engine: Engine) -> None:
    """Each request of each kind is answered by 503, then by 500, and only then by the store."""
    uri = object_store.lake()
    with running_object_store(behind=object_store.endpoint) as bad_line:
        lake = Lake(TableStore(uri, engine, bad_line.options), engine, uri, bad_line.options)
        lake.publish(by_month(jan=1), "month")
        lake.publish(by_month(feb=2), "month", partitions=["feb"])
        assert contents(lake.store.read(NAME)) == [("feb", 2.0), ("jan", 1.0)]
        assert [version.version for version in lake.store.versions(NAME)] == [1, 0]


def test_a_file_that_the_store_refuses_is_not_published(object_store: ObjectStore, engine: Engine) -> None:
    """Arrow's copy to a store drops the errors of small files."""
    uri = object_store.lake()
    good = Lake(TableStore(uri, engine, object_store.options), engine, uri, object_store.options)
    last = good.publish(sales(1))
    with running_object_store(behind=object_store.endpoint, refused=".parquet") as bad_line:
        store = TableStore(uri, engine, bad_line.options)
        with engine.stage(sales(2)) as staged, pytest.raises(TableError, match="refused or cut off by the store"):
            store.publish(NAME, staged)
    assert good.store.current(NAME) == last
    assert contents(good.store.read(NAME)) == [(0, 1.0)]


def test_secrets_in_options_and_addresses_are_kept_out_of_errors(engine: Engine) -> None:
    options = {"AZURE_STORAGE_SAS_TOKEN": "sig=very-secret", "AWS_SECRET_ACCESS_KEY": SECRET}
    store = TableStore("s3://user:pass@bucket/lake?sig=signed", engine, options)
    reason = f"GET http://user:pass@host/a?sig=signed with {SECRET} and sig=very-secret failed"
    with pytest.raises(TableError) as caught, store._plain_errors(NAME, "cannot be read"):
        raise OSError(reason)
    expected = "GET http://host/a with *** and *** failed"
    assert str(caught.value) == f"{NAME} in s3://bucket/lake cannot be read: {expected}"


def test_a_missing_bucket_is_named(object_store: ObjectStore, engine: Engine) -> None:
    store = TableStore("s3://never-made/lake", engine, object_store.options)
    with engine.stage(sales(1)) as staged, pytest.raises(TableError, match="s3://never-made/lake .*NoSuchBucket"):
        store.publish(NAME, staged)


@needs_root
@pytest.mark.parametrize("full", ["lake", "scratch"])
def test_a_full_disk_is_named_and_the_last_version_stays(full: str, warm: WarmParent, tmp_path: Path) -> None:
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


def test_a_folder_that_delta_misreads_is_refused(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(TableError, match="has a % in its path"):
        TableStore(str(tmp_path / "a%20b"), engine)


def test_a_file_uri_is_a_folder(engine: Engine, tmp_path: Path) -> None:
    assert TableStore(f"file://{tmp_path}/lake/", engine).uri(NAME) == f"{tmp_path}/lake/{NAME}"


def _files(folder: Path) -> set[Path]:
    return {*folder.glob("*.parquet*"), *folder.glob("_delta_log/*#*")}


def _age(table: Path, by: timedelta) -> None:
    for entry in table.glob("_delta_log/*.json"):
        older = re.sub(
            r'("deletionTimestamp":)(\d+)',
            lambda found: f"{found[1]}{int(found[2]) - int(by.total_seconds() * 1000)}",
            entry.read_text(),
        )
        entry.write_text(older)
    for file in table.glob("*.parquet"):
        os.utime(file, (time.time() - by.total_seconds(),) * 2)


def _assert_described(lake: Lake, version: TableVersion, by: str | None) -> None:
    with lake.engine.stage(lake.store.scan(NAME, version=version.version), by) as staged:
        assert {value: (part.digest, part.rows) for value, part in staged.parts.items()} == version.parts
        assert (staged.digest, staged.rows) == (version.digest, version.rows)


@contextmanager
def _working(
    request: pytest.FixtureRequest, lake: Lake, jobs: list[Job], scratch: Path
) -> Iterator[Callable[[], bool]]:
    """Writers at work, each in a process; in threads on a store that only this process can see."""
    if lake.is_shared:
        writers: list[Writer] = request.getfixturevalue("processes")[: len(jobs)]
        for writer, job in zip(writers, jobs, strict=True):
            writer.start(lake, job=asdict(job))
        yield lambda: any(writer.is_at_work() for writer in writers)
        for writer in writers:
            writer.wait()
        return
    with ThreadPoolExecutor(len(jobs)) as pool:
        # An engine serves one thread; the store is theirs together.
        futures = [pool.submit(work, lake.store, Engine(scratch, "200MB", 1), job) for job in jobs]
        yield lambda: not all(future.done() for future in futures)
        for future in futures:
            future.result()
