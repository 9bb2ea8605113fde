"""Landed rows: a source file opened as rows that know where they came from.

A file that cannot be read as a whole is an error that says why; a line that cannot be read is a row
like the others, with its error. `source_files.py` fetches the file, `csv_records.py` splits CSV and
`sqlite_files.py` reads SQLite; what the columns mean is for `lake/quarantine.py` and the schemas.
"""

from __future__ import annotations

import glob
import hashlib
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from platform_assets.base.errors import SourceError
from platform_assets.base.sql_quoting import sql_text
from platform_assets.landing.csv_records import Records, header
from platform_assets.landing.file_remarks import remarks_on
from platform_assets.landing.source_files import fetch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from types import TracebackType

    from platform_assets.base.frames import Expression
    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.archives import Unpacking
    from platform_assets.landing.source_files import Source

LINE = "source_line"
ERROR = "source_error"
TEXT = "source_text"
_PARQUET_MAGIC = b"PAR1"


@dataclass(frozen=True)
class Landed:
    r"""The rows of a source file, as they came. A context manager that removes its files.

    Attributes
    ----------
    source
        The file.
    rows
        Its columns, their names in lower case (CSV: all text, null where empty), and `source_line`
        (int64: in a CSV file the line on which the row begins, its header being line 1; elsewhere
        the row, from 1), `source_error` (why it could not be read) and `source_text` (such
        a row as it stands; bytes that are not UTF-8 as `\xff`).
    digest
        SHA-256 of the file's bytes, unpacked.
    folder
        Where the rows are until they are discarded.
    remarks
        Remarks on the file, from `file_remarks.py`.
    """

    source: Source
    rows: Expression
    digest: str
    folder: Path | None = None
    remarks: Sequence[str] = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove the files; the rows cannot be read any more."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def table_rows(file: Path, source: Source, engine: Engine) -> Expression:
    """The rows of a CSV or parquet file. In a CSV file, blank lines are skipped; each other is part of one row."""
    with file.open("rb") as stream:
        head = stream.read(len(_PARQUET_MAGIC))
    return _parquet(file, source, engine) if head == _PARQUET_MAGIC else _csv(file, source, engine)


def land(
    source: Source,
    engine: Engine,
    unpacking: Unpacking | None = None,
    rows: Callable[[Path, Source, Engine], Expression] = table_rows,
) -> Landed:
    """Open a file, local or remote. A private copy is read: whoever replaces the file meanwhile mixes no two of them.

    Parameters
    ----------
    source
        The file.
    engine
        What reads the rows.
    unpacking
        What gets the file out of an archive; without it, a file is unpacked if its name says so, e.g. by `.gz`.
    rows
        What reads the file: CSV and parquet, or `sqlite_files.sqlite_rows`.

    Raises
    ------
    SourceError
        It is missing, unreachable, empty, damaged, or of another kind.
    """
    folder = engine.folder("landing")
    try:
        file = fetch(source, folder / "file", unpacking)
        if unpacking:
            (folder / "unpacked").mkdir()
            file = unpacking.unpack(file, folder / "unpacked", str(source))
        return Landed(source, _opened(file, source, engine, rows), _digest(file), folder, remarks_on(file))
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _digest(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _opened(
    file: Path, source: Source, engine: Engine, rows: Callable[[Path, Source, Engine], Expression]
) -> Expression:
    import duckdb

    if not file.stat().st_size:
        raise SourceError(f"{source} is empty; it needs a header and rows")
    try:
        found = rows(file, source, engine)
        has_rows = found.limit(1).count().to_pyarrow().as_py()
    except duckdb.Error as error:
        raise SourceError(f"{source} cannot be read: {str(error).splitlines()[0]}") from error
    if not has_rows:
        raise SourceError(f"{source} has columns and no rows; it needs at least one")
    return found


def named(columns: Sequence[str], source: Source) -> list[str]:
    """The columns' names as schemas write them; pandas leaves that of an index column empty."""
    names = [name.strip().lower() or f"unnamed_{place}" for place, name in enumerate(columns, start=1)]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise SourceError(f"{source} has the columns {doubled} more than once")
    reserved = sorted({LINE, ERROR, TEXT}.intersection(names))
    if reserved:
        raise SourceError(f"{source} has the columns {reserved}, whose names the platform needs; rename them")
    return names


def _parquet(file: Path, source: Source, engine: Engine) -> Expression:
    import ibis

    rows = engine.ibis.read_parquet(glob.escape(str(file)), file_row_number=True, hive_partitioning=False)
    number = rows.file_row_number + 1
    found = rows.drop("file_row_number")
    names = dict(zip(named(found.columns, source), found.columns, strict=True))
    return rows.select(
        **{name: rows[old] for name, old in names.items()},
        **{LINE: number, ERROR: ibis.null("string"), TEXT: ibis.null("string")},
    )


def _csv(file: Path, source: Source, engine: Engine) -> Expression:
    """Copy a CSV file to parquet, every field as text, and every line that is no row as its text.

    DuckDB gets only what it cannot misread: given damaged lines it loses some, and miscounts others.
    """
    clean, target = file.with_name("clean.csv"), file.with_name("rows.parquet")
    with file.open("rb") as stream, clean.open("wb") as copy:
        columns = named(header(stream, source), source)
        records = Records(stream, len(columns))
        copy.writelines(records)
    types = {LINE: "BIGINT", ERROR: "VARCHAR", TEXT: "VARCHAR"} | dict.fromkeys(columns, "VARCHAR")
    declared = ", ".join(f"{sql_text(name)}: {sql_text(kind)}" for name, kind in types.items())
    engine.sql(
        "COPY (SELECT * FROM read_csv(?, auto_detect=false, hive_partitioning=false, header=false, strict_mode=true, "  # noqa: S608 - a constant; values are parameters
        # Whoever begins to read in the middle cannot know whether that is between quotes.
        f"delim=',', quote='\"', escape='\"', new_line='\\n', parallel={not records.spanning}, "
        f"columns={{{declared}}})) TO {sql_text(str(target))} (FORMAT parquet)",
        glob.escape(str(clean)),
    )
    clean.unlink()
    return engine.parquet(target)
