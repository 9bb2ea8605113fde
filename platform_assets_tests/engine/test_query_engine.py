"""The query engine: its resource limits, and the rows that it stages and reads."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import ibis
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.base.errors import TableError
from platform_assets.engine.query_engine import Engine, as_frame


def test_the_engine_limits_memory_and_threads_and_sets_the_spill_folder(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "scratch", "123MiB", 1)
    [(memory, threads, spill, zone)] = engine.sql(
        "SELECT current_setting('memory_limit'), current_setting('threads'),"
        " current_setting('temp_directory'), current_setting('TimeZone')"
    )
    assert (memory, threads, zone) == ("123.0 MiB", 1, "UTC")
    assert (tmp_path / "scratch") in Path(spill).parents
    engine.close()
    assert list((tmp_path / "scratch").iterdir()) == []


LARGE = """
import resource, sys
from pathlib import Path
from platform_assets.engine.query_engine import Engine
scratch = Path(sys.argv[1])
engine = Engine(scratch, "50MB", 1)
engine.sql("CREATE VIEW numbers AS SELECT i, hash(i) AS h, hash(i + 1)::VARCHAR AS t FROM range(3_000_000) r(i)")
numbers = engine.ibis.table("numbers")
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
spilled = 0
import threading
done = threading.Event()
def watch():
    global spilled
    while not done.wait(0.02):
        spilled = max(spilled, sum(f.stat().st_size for f in list(scratch.glob("*/spill/*")) if f.exists()))
watcher = threading.Thread(target=watch); watcher.start()
staged = engine.stage(numbers.mutate(h=numbers.h.cast("float64")).order_by("h"))
done.set(); watcher.join()
print(staged.rows, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, spilled // 2**20)
"""


@pytest.mark.slow
def test_a_table_larger_than_memory_is_staged_and_leaves_no_files(tmp_path: Path) -> None:
    """Sort three million rows of at least 36 bytes within 50 MB."""
    done = subprocess.run(
        [sys.executable, "-c", LARGE, str(tmp_path)], check=True, capture_output=True, text=True
    ).stdout
    rows, megabytes, spilled = map(int, done.split())
    assert rows == 3_000_000
    assert megabytes < 125
    assert spilled > 100
    assert list(tmp_path.iterdir()) == []


def test_rows_are_released_when_no_expression_uses_them(engine: Engine) -> None:
    for number in range(20):
        as_frame(engine.as_expression(pd.DataFrame({"a": [number]})))
    views = "SELECT count(*) FROM duckdb_views() WHERE view_name LIKE 'rows_%'"
    engine.as_expression(pd.DataFrame({"a": [0]}))
    assert engine.sql(views)[0][0] <= 2
    kept = engine.as_expression(pd.DataFrame({"a": [7]})).mutate(b=1)
    engine.as_expression(pd.DataFrame({"a": [0]}))
    assert as_frame(kept).to_dict("list") == {"a": [7], "b": [1]}


def test_names_and_paths_may_contain_spaces_and_quotes(engine: Engine) -> None:
    rows = pd.DataFrame({'a part\'s "name"': ["x", "y"], "select": [1, 2], "b=c": [3, 4]})
    with engine.stage(rows, 'a part\'s "name"') as staged:
        assert staged.parts.keys() == {"x", "y"}
        pd.testing.assert_frame_equal(as_frame(engine.staged(staged).order_by("select")), rows)


def test_file_names_are_not_interpreted_as_glob_patterns(engine: Engine, files: Path) -> None:
    (files / "month=1").mkdir()
    names = ("[a].parquet", "a.parquet", "month=1/*.parquet", "month=1/b.parquet")
    for name in names:
        pq.write_table(pa.table({"name": [name]}), files / name)
    for name in names:
        assert as_frame(engine.parquet(files / name)).to_dict("list") == {"name": [name]}


def test_staging_drops_the_index_of_a_frame_and_stores_missing_text_as_null(engine: Engine) -> None:
    rows = pd.DataFrame({"text": pd.Series(["a", None], dtype=object), "n": [1, 2]}).set_index("n", drop=False)
    with engine.stage(rows) as staged:
        assert staged.schema == pa.schema({"text": pa.string(), "n": pa.int64()})
        assert engine.staged(staged).text.to_pyarrow().to_pylist() == ["a", None]


@pytest.mark.parametrize("by", [None, "part"])
def test_a_table_without_rows_keeps_its_columns(engine: Engine, by: str | None) -> None:
    rows = pa.table({"part": pa.array([], pa.string()), "day": pa.array([], pa.date32())})
    with engine.stage(rows, by) as staged:
        assert (staged.rows, staged.schema) == (0, rows.schema)
        assert engine.staged(staged).to_pyarrow().schema == rows.schema


def test_in_memory_tables_of_ibis_are_staged(engine: Engine) -> None:
    with engine.stage(ibis.memtable(pa.table({"a": [1, 2]})).filter(ibis._.a > 1)) as staged:
        assert as_frame(engine.staged(staged)).a.tolist() == [2]


def test_the_error_for_too_little_memory_or_space_names_the_setting(tmp_path: Path) -> None:
    engine = Engine(tmp_path, "10MB", 1)
    engine.sql("SET max_temp_directory_size = '1MB'")
    engine.sql("CREATE VIEW numbers AS SELECT i, hash(i)::VARCHAR AS h FROM range(1_000_000) r(i)")
    with pytest.raises(TableError, match="not enough memory to stage the rows .*raise PLATFORM_ENGINE_MEMORY"):
        engine.stage(engine.ibis.table("numbers").order_by("h"))
    engine.close()
