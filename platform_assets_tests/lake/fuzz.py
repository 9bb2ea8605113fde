"""Land unusual or damaged files and check each outcome.

Each file must give its exact rows, or its rows without the quarantined lines, or be refused. `make fuzz`
lands thousands of files, the test suite a few hundred. `make fuzz ARGS="--seed 7 --files 1"` repeats a failing case.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from platform_assets.base.errors import SourceError
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.broken_rules import RULES
from platform_assets.lake.quarantine import quarantined, sift
from platform_assets.lake.schemas import Column
from platform_assets.landing.landed_rows import Landed, land
from platform_assets.landing.row_writer import LINE, LINES
from platform_assets.landing.source_files import Source
from platform_assets.landing.sqlite_files import sqlite_rows
from platform_assets_tests.lake.odd_files import NAMES, SCHEMA, TABLE, OddFile, odd_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

EXACT, QUARANTINED, REFUSED = "exact", "less quarantined lines", "refused"
BATCH = 200
"""Number of files that the engine reads in one query. One query for many files is faster, because compiling a query
takes longer than reading a file."""
FILE = "file"
_BATCH_SCHEMA = replace(SCHEMA, columns=(*SCHEMA.columns, Column(FILE, "int64", "Seed.")), key=(FILE, "id"))
_LINES = 1_000_000
"""Offset between the line numbers of consecutive files in a batch, so that the numbers do not overlap."""


def outcomes(seeds: Iterable[int], engine: Engine, folder: Path) -> tuple[Counter[str], list[str]]:
    """Land one file for each seed. Return how often each outcome occurred, and a description of each wrong outcome."""
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    landed: defaultdict[tuple[pa.DataType, ...], dict[int, tuple[OddFile, pa.Table]]] = defaultdict(dict)
    for seed in seeds:
        file = odd_file(seed, folder)
        try:
            rows = _landed(file, engine, folder)
            landed[tuple(rows.schema.field(name).type for name in NAMES)][seed] = (file, rows)
        except SourceError as error:
            counts[REFUSED] += 1
            if not file.may_refuse:
                wrong.append(f"seed {seed}: refused: {error}; {file.story}")
        except Exception as error:  # noqa: BLE001 - whatever it is, it is reported with its seed
            wrong.append(f"seed {seed}: {type(error).__name__}: {error}; {file.story}")
    for batch in landed.values():
        good, bad = _sifted({seed: rows for seed, (_, rows) in batch.items()}, engine)
        for seed, (file, _) in batch.items():
            counts[QUARANTINED if bad[seed] else EXACT] += 1
            if fault := _fault(file, good[seed], bad[seed]):
                wrong.append(f"seed {seed}: {fault}; {file.story}")
    return counts, wrong


def _landed(file: OddFile, engine: Engine, folder: Path) -> pa.Table:
    path = folder / file.name
    path.write_bytes(file.content)
    reader = sqlite_rows(TABLE, NAMES) if file.name.endswith("sqlite") else None
    with land(Source("ODD", str(path)), engine, reader=reader) as landed:
        rows = pa.concat_tables([pq.read_table(part) for part in landed.files if part.exists()])
    if missing := set(NAMES).difference(rows.column_names):
        raise SourceError(f"it lacks the columns {sorted(missing)}")
    return rows.drop_columns("extra") if "extra" in rows.column_names else rows


def _sifted(
    tables: Mapping[int, pa.Table], engine: Engine
) -> tuple[Mapping[int, list[dict[str, Any]]], Mapping[int, dict[int, str]]]:
    """Return for each file its good rows, and the broken rules of each quarantined line."""
    numbered = [
        rows.set_column(
            rows.schema.get_field_index(LINE), LINE, pa.array(place * _LINES + line for line in rows[LINE].to_pylist())
        ).append_column(FILE, pa.array([seed] * len(rows)))
        for place, (seed, rows) in enumerate(tables.items())
    ]
    rows = pa.concat_tables(numbered, promote_options="default")
    batch = Landed(Source("ODD", "batch"), engine.as_expression(rows), "")
    sifted = sift(batch, _BATCH_SCHEMA, engine)
    with sifted:
        good = sifted.good().to_pyarrow().to_pylist()
        bad = quarantined(batch, sifted).to_pyarrow().to_pylist()
        assert sifted.typed.rows == len(good) + len(bad) + sifted.twins
    seeds = list(tables)
    spans: dict[int, int] = {}
    if LINES in rows.column_names:
        spans = {line: span or 1 for line, span in zip(rows[LINE].to_pylist(), rows[LINES].to_pylist(), strict=True)}
    by_seed: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in good:
        by_seed[row.pop(FILE)].append(row)
    rules: defaultdict[int, dict[int, str]] = defaultdict(dict)
    for row in bad:
        seed, line = seeds[row[LINE] // _LINES], row[LINE] % _LINES
        rules[seed] |= dict.fromkeys(range(line, line + spans.get(row[LINE], 1)), row[RULES])
    return by_seed, rules


def _fault(file: OddFile, good: Sequence[dict[str, Any]], bad: Mapping[int, str]) -> str | None:
    by_id = {row["id"]: row for row in good}
    # Accept more outcomes for an id that occurs more than once: if one copy of its row is damaged and still readable,
    # all copies are quarantined, because rows with the same key and different values are all bad.
    ids = Counter(row["id"] for row in file.rows)
    invented = sorted(set(by_id) - {row["id"] for row in file.rows})
    if invented or len(by_id) < len(good):
        return f"rows were added or duplicated: {[by_id[key] for key in invented[:2]]}"
    for place, (row, lines) in enumerate(zip(file.rows, file.lines, strict=True)):
        is_quarantined = any(line in bad for line in lines)
        found = by_id.get(row["id"])
        is_alone = ids[row["id"]] == 1
        fault: str | bool
        if place in file.unreadable:
            fault = is_alone and found is not None and not file.may_quarantine and "an unreadable row is published"
        elif found is None:
            fault = not is_quarantined and "a row is lost"
        else:
            # If a copy of the row was damaged, one copy can be quarantined and the other copy published.
            fault = found != row and (is_alone or not is_quarantined) and "a value is changed"
        if is_alone and place not in file.unreadable and is_quarantined and not file.may_quarantine:
            fault = "a good row is quarantined"
        if fault:
            return f"{fault}: {found} for {row}, quarantined {dict(bad)}"
    return None


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=int(time.time()), help="first seed (default: the current time)")
    parser.add_argument("--files", type=int, default=5_000, help="number of files, one per seed")
    given = parser.parse_args()
    last = given.seed + given.files
    counts: Counter[str] = Counter()
    failures = 0
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        engine = Engine(Path(name) / "scratch", "500MB", 1)
        for first in range(given.seed, last, BATCH):
            found, wrong = outcomes(range(first, min(first + BATCH, last)), engine, Path(name))
            counts += found
            failures += len(wrong)
            sys.stdout.write("".join(f"{line}\n" for line in wrong))
            sys.stdout.flush()
        engine.close()
    sys.stdout.write(f"seeds {given.seed} to {last - 1}: {dict(counts)}, {failures} wrong\n")
    sys.exit(failures > 0)


if __name__ == "__main__":
    main()
