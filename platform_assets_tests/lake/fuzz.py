"""Land odd files and check each outcome: `make fuzz` runs thousands, the suite a few hundred.

For each file the outcome must be the table exactly, the table less the quarantined lines, or a refusal.
`make fuzz ARGS="--seed 7 --files 1"` repeats a failing case.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.broken_rules import RULES
from platform_assets.lake.quarantine import quarantined, reading, sift
from platform_assets.landing.landed_rows import land
from platform_assets.landing.row_writer import LINE
from platform_assets.landing.source_files import Source
from platform_assets.landing.sqlite_files import sqlite_rows
from platform_assets_tests.lake.odd_files import NAMES, SCHEMA, TABLE, OddFile, odd_file

if TYPE_CHECKING:
    from collections.abc import Sequence

EXACT, QUARANTINED, REFUSED = "exact", "less quarantined lines", "refused"


class WrongOutcomeError(AssertionError):
    """A value was changed, or a row was lost or invented."""


def outcome(seed: int, engine: Engine, folder: Path) -> str:
    """Land the file of a seed and say what became of it.

    Raises
    ------
    WrongOutcomeError
        The outcome is none of the three.
    """
    file = odd_file(seed, folder)
    path = folder / file.name
    path.write_bytes(file.content)
    try:
        found = _landed(file, path, engine)
    except SourceError as error:
        if file.may_refuse:
            return REFUSED
        raise WrongOutcomeError(f"seed {seed}: refused: {error}; {file.story}") from error
    except Exception as error:
        raise WrongOutcomeError(f"seed {seed}: {type(error).__name__}: {error}; {file.story}") from error
    finally:
        path.unlink()
    if wrong := _wrong(file, *found):
        raise WrongOutcomeError(f"seed {seed}: {wrong}; {file.story}")
    return QUARANTINED if found[1] else EXACT


def _landed(file: OddFile, path: Path, engine: Engine) -> tuple[list[dict[str, Any]], dict[int, str]]:
    """The good rows, and the broken rules of each quarantined line."""
    reader = sqlite_rows(TABLE, NAMES) if file.name.endswith("sqlite") else None
    with land(Source("ODD", str(path)), engine, reader=reader) as landed:
        sifted = sift(landed, SCHEMA, engine)
        with sifted.typed, reading(landed):
            good = sifted.good().to_pyarrow().to_pylist()
            bad = quarantined(landed, sifted).to_pyarrow().to_pylist()
            assert sifted.typed.rows == len(good) + len(bad) + sifted.twins
    return good, {row[LINE]: row[RULES] for row in bad}


def _wrong(file: OddFile, good: Sequence[dict[str, Any]], bad: dict[int, str]) -> str | None:
    by_id = {row["id"]: row for row in good}
    if len(by_id) < len(good):
        return "a key is published twice"
    expected = {row["id"]: row for row in file.rows}
    if invented := sorted(set(by_id) - set(expected)):
        return f"rows are invented: {[by_id[key] for key in invented[:2]]}"
    for place, (row, lines) in enumerate(zip(file.rows, file.lines, strict=True)):
        is_quarantined = any(line in bad for line in lines)
        found = by_id.get(row["id"])
        if place in file.unreadable:
            # Of rows that contradict each other, one stays if the lines of the others cannot be read.
            if found is not None and not file.may_quarantine:
                return f"an unreadable row is published: {found} for {row}"
        elif found is None and not is_quarantined:
            return f"a row is lost: {row}"
        elif found is not None and found != row:
            return f"a value is changed: {found} for {row}"
        elif is_quarantined and not file.may_quarantine:
            return f"a good row is quarantined: {row}, {bad}"
    return None


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="first seed; the time if it is not given")
    parser.add_argument("--files", type=int, default=5_000, help="number of files, one per seed")
    given = parser.parse_args()
    seed = int(time.time()) if given.seed is None else given.seed
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        engine = Engine(folder / "scratch", "500MB", 1)
        for number in range(seed, seed + given.files):
            try:
                counts[outcome(number, engine, folder)] += 1
            except WrongOutcomeError as error:
                counts["wrong"] += 1
                sys.stdout.write(f"{error}\n")
                if given.files == 1:
                    traceback.print_exc()
        engine.close()
    sys.stdout.write(f"seeds {seed} to {seed + given.files - 1}: {dict(counts)}\n")
    sys.exit(bool(counts["wrong"]))


if __name__ == "__main__":
    main()
