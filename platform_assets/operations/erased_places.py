"""Replace a person's id in logs, incidents and the histories of Dagster and MLflow; search all stores for the id."""

from __future__ import annotations

import re
from contextlib import closing
from typing import TYPE_CHECKING, Any

from platform_assets.operations.backup import HOME_FOLDERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from platform_assets.database.connections import Database, Purpose
    from platform_assets.services import Services

LIBRARIES: tuple[Purpose, ...] = ("dagster", "mlflow")
SAMPLES = ("demo", "landing")
"""Folders of generated sample data, which are not about real persons."""
_LOGS = ("logs/**/*", "dagster/compute_logs/**/*", "postgres/*.log*")
_BEFORE, _AFTER = r"(?<![0-9A-Za-z_.-])", r"(?![0-9A-Za-z_-])"
_COLUMNS = b"""
select c.oid::regclass::text, quote_ident(a.attname) from pg_class c join pg_attribute a on a.attrelid = c.oid
where c.relkind = 'r' and c.relnamespace = 'public'::regnamespace and a.attnum > 0 and not a.attisdropped
and a.atttypid in ('text'::regtype, 'varchar'::regtype)
"""
_TABLES = b"""
select c.oid::regclass::text from pg_class c join pg_namespace n on n.oid = relnamespace
where relkind = 'r' and nspname !~ '^pg_' and nspname <> 'information_schema'
"""
_CHANGED = tuple(
    f"platform.{name}" for name in ("labels", "predictions", "shadow_predictions", "incidents", "erasures")
)
_TITLES = b"""
update platform.incidents set title = regexp_replace(title, %(id)s, %(other)s, 'g') where title ~ %(id)s
"""


def erase_texts(services: Services, owner: Database, subject: str) -> dict[str, int]:
    """Replace the id in logs, titles of incidents and the histories of Dagster and MLflow.

    Return the number of changed texts, by place.

    The replacement has the same length, so that files keep their size while programs write to them.
    """
    found = {}
    other = _replacement(subject)
    for purpose in LIBRARIES:
        with closing(services.database.connect(purpose)) as connection:
            for table, column in connection.execute(_COLUMNS).fetchall():
                rows = connection.execute(
                    f"update {table} set {column} = regexp_replace({column}, %s, %s, 'g') where {column} ~ %s".encode(),  # noqa: S608 - names of the catalogue
                    [pattern(subject), other, pattern(subject)],
                ).rowcount
                if rows:
                    found[f"{purpose} {table}"] = rows
                    connection.execute(f"vacuum full {table}".encode())
    with closing(owner.connect("platform")) as connection:
        if titles := connection.execute(_TITLES, {"id": pattern(subject), "other": other}).rowcount:
            found["platform.incidents"] = titles
    files = sum(_replace(path, subject, other) for path in _log_files(services.settings.home))
    return {**found, **({"log files": files} if files else {})}


def compact(owner: Database) -> None:
    """Rewrite the changed tables, because PostgreSQL keeps deleted rows in its files until a table is rewritten."""
    with closing(owner.connect("platform")) as connection:
        for (table,) in connection.execute(_TABLES).fetchall():
            if table in _CHANGED or not table.startswith("platform."):
                connection.execute(f"vacuum full {table}".encode())
        connection.execute(b"checkpoint")


def search(services: Services, owner: Database, subject: str) -> list[str]:
    """Return the places in which the id is found as a word: tables of the three databases, the lake, and files."""
    return [
        *_tables_with(owner, "platform", subject),
        *(place for purpose in LIBRARIES for place in _tables_with(services.database, purpose, subject)),
        *_lake_files_with(services, subject),
        *(str(path) for path in _home_files(services.settings.home) if _has(path.read_bytes(), subject)),
    ]


def pattern(subject: str) -> str:
    """Return a regular expression that matches the id as a whole word, for PostgreSQL and Python."""
    return f"{_BEFORE}{re.escape(subject)}{_AFTER}"


def _replacement(subject: str) -> str:
    # Replace digits with digits, so that JSON stays valid.
    return "".join("9" if char.isdigit() else "x" for char in subject)


def _tables_with(database: Database, purpose: Purpose, subject: str) -> Iterator[str]:
    with closing(database.connect(purpose)) as connection:
        for (table,) in connection.execute(_TABLES).fetchall():
            rows: Sequence[Any] = connection.execute(
                f"select count(*) from {table} as one where one::text ~ %s".encode(),  # noqa: S608 - a name of the catalogue
                [pattern(subject)],
            ).fetchall()
            if rows[0][0]:
                yield f"{table} in the database {database.name(purpose)}: {rows[0][0]} rows"


def _lake_files_with(services: Services, subject: str) -> Iterator[str]:
    import pyarrow.fs as pafs
    import pyarrow.parquet as pq

    location = services.tables.location
    files = location.all_files()
    for info in files.get_file_info(pafs.FileSelector("", recursive=True)):
        if not info.is_file:
            continue
        with files.open_input_file(info.path) as file:
            if info.path.endswith(".parquet"):
                rows = pq.ParquetFile(file)
                is_found = any(_rows_have(batch, subject) for batch in rows.iter_batches())
            else:
                is_found = _has(file.read(), subject)
        if is_found:
            yield f"{location.root}/{info.path}"


def _rows_have(batch: Any, subject: str) -> bool:
    import pyarrow as pa
    import pyarrow.compute as pc

    searched = rf"(^|[^0-9A-Za-z_.-]){re.escape(subject)}($|[^0-9A-Za-z_-])"
    for column in batch.columns:
        kind = column.type
        if pa.types.is_integer(kind) or pa.types.is_string(kind) or pa.types.is_large_string(kind):
            found = pc.match_substring_regex(column.cast(pa.string()), searched)
            if pc.any(found).as_py():
                return True
    return False


def _log_files(home: Path) -> Iterator[Path]:
    for one in _LOGS:
        yield from (path for path in home.glob(one) if path.is_file())


def _home_files(home: Path) -> Iterator[Path]:
    for folder in (*HOME_FOLDERS, "logs", "scratch"):
        if folder not in SAMPLES:
            yield from (path for path in (home / folder).rglob("*") if path.is_file())


def _has(data: bytes, subject: str) -> bool:
    return re.search(pattern(subject).encode(), data) is not None


def _replace(path: Path, subject: str, other: str) -> bool:
    places = [match.start() for match in re.finditer(pattern(subject).encode(), path.read_bytes())]
    with path.open("r+b") as file:
        for place in places:
            file.seek(place)
            file.write(other.encode())
    return bool(places)
