"""Benchmark of in-memory tables of the hotels: size, peak memory while reading, and whether reading loses values.

Each reader loads the same CSV file in its own process. To find lost values, the loaded table is converted back to
float64, int64 and text columns, and compared with the file. The hotels come from
PLATFORM_MEMORY_DATA_URI; if this variable is unset, 417,536 demo hotels are used.
"""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from platform_assets.domains.optimisation.memory import read_small
from platform_assets.domains.optimisation.sources import HOTELS
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.source_files import fetch
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd

DEMO_ROWS = 417_536
ROUNDS = 3
MEGABYTE = 1e6


@dataclass(frozen=True)
class Reader:
    """A way to load a CSV file into an in-memory table.

    Attributes
    ----------
    load
        Function that loads a CSV file and returns the table.
    size
        Function that returns the size of the loaded table in bytes.
    back
        Function that converts the loaded table back to a pandas frame.
    """

    load: Callable[[Path], Any]
    size: Callable[[Any], int]
    back: Callable[[Any], pd.DataFrame]


def readers() -> dict[str, Reader]:
    return {
        **_pandas(),
        **_arrow(),
        **_polars(),
        "platform": Reader(read_small, lambda table: int(table.nbytes), lambda table: table.frame()),
    }


def _pandas() -> dict[str, Reader]:
    import pandas as pd

    def size(frame: pd.DataFrame) -> int:
        return int(frame.memory_usage(deep=True).sum())

    def as_objects(path: Path) -> pd.DataFrame:
        frame = pd.read_csv(path)
        return frame.astype(dict.fromkeys(frame.select_dtypes("str"), object))

    def small(path: Path, *, floats: bool) -> pd.DataFrame:
        frame = pd.read_csv(path)
        for name, column in frame.items():
            if column.dtype == "str":
                frame[name] = column.astype("category")
            elif column.dtype == "int64":
                frame[name] = pd.to_numeric(column, downcast="integer")
            elif floats:
                frame[name] = pd.to_numeric(column, downcast="float")
        return frame

    return {
        "pandas, texts as objects": Reader(as_objects, size, lambda frame: frame),
        "pandas, plain read_csv": Reader(pd.read_csv, size, lambda frame: frame),
        "pandas, downcast and categories": Reader(lambda path: small(path, floats=True), size, lambda frame: frame),
        "  floats left alone": Reader(lambda path: small(path, floats=False), size, lambda frame: frame),
    }


def _arrow() -> dict[str, Reader]:
    import pyarrow as pa
    from pyarrow import csv

    def dictionaries(path: Path) -> pa.Table:
        table = csv.read_csv(path)
        return pa.table({name: table[name].combine_chunks().dictionary_encode() for name in table.column_names})

    def size(table: pa.Table) -> int:
        return int(table.nbytes)

    return {
        "Arrow": Reader(csv.read_csv, size, lambda table: table.to_pandas()),
        "Arrow, dictionaries": Reader(dictionaries, size, lambda table: table.to_pandas()),
    }


def _polars() -> dict[str, Reader]:
    import polars as pl

    def plain(path: Path) -> pl.DataFrame:
        return pl.read_csv(path, infer_schema_length=None)  # otherwise `read_csv` fails on a postal code with a dash

    def small(path: Path, *, floats: bool) -> pl.DataFrame:
        frame = plain(path)
        return frame.with_columns(
            frame[name].cast(pl.Categorical) if kind == pl.String else frame[name].shrink_dtype()
            for name, kind in frame.schema.items()
            if floats or kind != pl.Float64
        )

    def size(frame: pl.DataFrame) -> int:
        # Add the size of the categories' texts, because polars counts only the codes of a categorical column.
        texts = [frame[name].unique().cast(pl.String) for name, kind in frame.schema.items() if kind == pl.Categorical]
        return int(frame.estimated_size()) + sum(int(text.estimated_size()) for text in texts)

    def back(frame: pl.DataFrame) -> pd.DataFrame:
        restored: pd.DataFrame = frame.with_columns(pl.col(pl.Categorical).cast(pl.String)).to_pandas()
        return restored

    return {
        "polars": Reader(plain, size, back),
        "polars, shrunk and categorical": Reader(lambda path: small(path, floats=True), size, back),
        "  floats left alone ": Reader(lambda path: small(path, floats=False), size, back),
    }


def run() -> None:
    """Measure all readers, and print one line for each."""
    with tempfile.TemporaryDirectory(prefix="benchmark-") as folder:
        path, few = _prepare(Path(folder))
        names = list(readers())
        found: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
        for _ in range(ROUNDS):
            for name in names:
                found[name].append(_measured(name, path, few))
    ours = found["platform"][0]["size"]
    print(f"\nhotels in memory; medians of {ROUNDS} alternating runs, each in its own process")
    print(f"{'':34}{'MB':>8}{'ratio':>8}{'lossless':>10}{'peak MB':>9}{'peak/MB':>9}{'seconds':>9}")
    for name, rounds in found.items():
        size, peak = rounds[0]["size"], median(one["peak"] for one in rounds)
        lossless = "yes" if rounds[0]["lossless"] else "no"
        print(
            f"{name:34}{size / MEGABYTE:8.2f}{size / ours:8.2f}{lossless:>10}{peak / MEGABYTE:9.1f}"
            f"{peak / size:9.2f}{median(one['seconds'] for one in rounds):9.2f}"
        )


def _prepare(folder: Path) -> tuple[Path, Path]:
    """Write all valid hotels to a CSV file for the readers, and 2,000 of them to a file for the warm-up."""
    source = Sources(Settings(home=folder / "home", sources="demo", demo_rows=DEMO_ROWS)).find(HOTELS)
    table = read_small(fetch(source, folder / "source"))
    path, few = folder / "hotels.csv", folder / "few.csv"
    frame = table.frame()
    frame.to_csv(path, index=False)
    frame.head(2_000).to_csv(few, index=False)
    print(f"\n{table.rows:,} hotels, demo data: {source.demo}; {path.stat().st_size / MEGABYTE:.1f} MB as CSV")
    return path, few


def _measured(name: str, path: Path, few: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.small_tables", name, str(path), str(few)]
    answer: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return answer


def _measure(reader: Reader, path: Path, few: Path) -> dict[str, Any]:
    reader.size(reader.load(few))  # imports
    gc.collect()
    before = _reset_peak()
    start = time.perf_counter()
    held = reader.load(path)
    seconds = time.perf_counter() - start
    peak = _status("VmHWM") - before
    return {"size": reader.size(held), "peak": peak, "seconds": seconds, "lossless": _is_same(reader.back(held), path)}


def _is_same(found: pd.DataFrame, path: Path) -> bool:
    import numpy as np
    import pandas as pd

    expected = pd.read_csv(path)
    return all(
        np.array_equal(found[name].to_numpy(), column.to_numpy(), equal_nan=True)
        if column.dtype == "float64"
        else found[name].astype(column.dtype).equals(column)
        for name, column in expected.items()
    )


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")  # Linux only
    return _status("VmRSS")


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_measure(readers()[sys.argv[1]], Path(sys.argv[2]), Path(sys.argv[3]))))
