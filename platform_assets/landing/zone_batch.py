"""Read a batch of CSV files of a landing zone into rows of texts, each with its file and line."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import SourceError, first_line
from platform_assets.landing.csv_records import open_csv
from platform_assets.landing.file_remarks import remarks_on
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.packed_files import unpack
from platform_assets.landing.row_writer import ERROR, LINE, LINES, TEXT, RowWriter, named
from platform_assets.landing.text_encodings import marked_encoding

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import pyarrow as pa

    from platform_assets.engine.query_engine import Engine
    from platform_assets.landing.csv_records import Piece
    from platform_assets.landing.path_pattern import Kind, PathPattern
    from platform_assets.landing.zone_files import ZoneFile
    from platform_assets.landing.zone_folder import ZoneFolder

FILE_DIGEST, FILE_NAME, FILE_LINE, LANDED_AT = "file_digest", "file_name", "line", "landed_at"
"""Columns that each row gets: SHA-256 and name of its file, line in the file, and time of the batch."""
_SHOWN = 3
"""Maximum number of files that a remark lists by name."""


@dataclass(frozen=True)
class FileForm:
    """Format of the files of a zone.

    Attributes
    ----------
    columns
        Columns that a file must have.
    fields
        Columns whose missing values are filled in, with the kind of each. A value that a row lacks is read from the
        file's path. If the path has no value either, a text field gets the file's name, and a time field is null.
    pattern
        Pattern that reads fields from the path of a file; None for no pattern.
    optional
        Columns that a file may lack. They are null in the rows of files without them.
    """

    columns: Sequence[str]
    fields: Mapping[str, Kind] = field(default_factory=dict)
    pattern: PathPattern | None = None
    optional: Sequence[str] = ()

    def of_path(self, name: str) -> dict[str, str] | None:
        """Return the fields in the path of a file, as texts; None if the path does not match the pattern."""
        found = self.pattern.read(name) if self.pattern else {}
        if found is None:
            return None
        return {key: value.isoformat() if isinstance(value, datetime) else value for key, value in found.items()}


@dataclass
class BatchRead:
    """Result of reading the files of a batch.

    Attributes
    ----------
    landed
        The rows of all files that could be read. Discard them when done.
    set_aside
        Reason why the content of a file cannot be used; the keys are digests.
    released
        Reason why a file cannot be read now; the keys are digests.
    """

    landed: Landed
    set_aside: dict[str, str]
    released: dict[str, str]


def read_batch(
    files: Sequence[ZoneFile], at: datetime | None, folder: ZoneFolder, form: FileForm, engine: Engine
) -> BatchRead:
    """Read the files of a batch. A file that cannot be read does not block the other files.

    Parameters
    ----------
    files
        The files to read.
    at
        Time at which the batch was created.
    folder
        The zone's folder.
    form
        Format of the files.
    engine
        Query engine that opens the rows.
    """
    scratch = engine.folder("landing")
    try:
        return _Reading(scratch, folder, form, at or datetime.now(UTC)).of(files, engine)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


class _Reading:
    """Reads files one after the other. Each becomes a parquet file, so that it is loaded completely or not at all."""

    def __init__(self, scratch: Path, folder: ZoneFolder, form: FileForm, at: datetime) -> None:
        self._scratch = scratch
        self._folder = folder
        self._form = form
        self._at = at
        self._rows = 0
        self._parts: dict[str, Path] = {}
        self._remarks: dict[str, list[str]] = {}

    def of(self, files: Sequence[ZoneFile], engine: Engine) -> BatchRead:
        set_aside, released = dict[str, str](), dict[str, str]()
        for file in files:
            try:
                name = self._fetch(file)
            except SourceError as error:
                released[file.digest] = str(error)
                continue
            try:
                self._land(file.digest, name)
            except SourceError as error:
                set_aside[file.digest] = str(error)
        parts = list(self._parts.values()) or [self._without_rows()]
        digest = hashlib.sha256(json.dumps(sorted(self._parts)).encode()).hexdigest()
        remarks = [_remark(remark, names) for remark, names in self._remarks.items()]
        origin = (FILE_DIGEST, FILE_NAME, FILE_LINE, LANDED_AT)
        rows = engine.parquet(*parts)
        landed = Landed(self._folder.source, rows, digest, self._scratch, remarks, origin=origin)
        return BatchRead(landed, set_aside, released)

    def _fetch(self, file: ZoneFile) -> str:
        """Copy the first readable file of those with the same content, and return the name of this file."""
        error = SourceError("every file with this content was removed or overwritten before it was read")
        for name, look in sorted(file.looks.items()):
            try:
                if self._folder.copy(name, look, self._copy) == file.digest:
                    return name
            except SourceError as found:
                error = found
        raise error

    def _land(self, digest: str, name: str) -> None:
        if not self._copy.stat().st_size:
            raise SourceError(f"{name} is empty; it needs a header and rows")
        file = unpack(self._copy, name, self._folder.source.unpacked)
        opened = open_csv(file, name, marked_encoding(file))
        source = self._folder.source
        columns = named(opened.names, source)
        if missing := [column for column in self._form.columns if column not in columns]:
            raise SourceError(f"{name} lacks the columns {missing}; it has {columns}")
        known = self._form.of_path(name)
        part = self._scratch / f"{len(self._parts)}.parquet"
        first = self._rows
        try:
            with self._writer(part) as writer:
                for piece in opened.pieces():
                    texts = dict(zip(columns, piece.texts.columns, strict=True))
                    self._write(writer, piece, texts, self._constants(digest, name, known or {}))
        except UnicodeError as error:
            self._rows = first
            raise SourceError(f"{name} cannot be read as {opened.encoding}: {first_line(error)}") from error
        if not writer.rows:
            raise SourceError(f"{name} has a header but no rows; it needs at least one row")
        self._parts[digest] = part
        self._note(name, file, columns, fits=known is not None)

    def _write(
        self, writer: RowWriter, piece: Piece, texts: Mapping[str, pa.Array], constants: Mapping[str, Any]
    ) -> None:
        import numpy as np
        import pyarrow as pa
        import pyarrow.compute as pc

        def rows(lines: Any, values: Mapping[str, Any]) -> None:
            count = len(lines)
            numbers = np.arange(self._rows + 1, self._rows + count + 1)
            everywhere = {name: pa.repeat(value, count) for name, value in constants.items()}
            for name in self._form.fields:
                if name in values:
                    everywhere[name] = pc.coalesce(values[name], everywhere[name])
            writer.write({**values, **everywhere, LINE: numbers, FILE_LINE: lines}, count)
            self._rows += count

        rows(piece.lines, {**texts, LINES: piece.spans})
        if piece.unread:
            unread = {
                ERROR: [one.reason for one in piece.unread],
                TEXT: [one.text for one in piece.unread],
                LINES: [1] * len(piece.unread),
            }
            rows([one.line for one in piece.unread], unread)

    def _constants(self, digest: str, name: str, known: Mapping[str, str]) -> dict[str, pa.Scalar]:
        import pyarrow as pa

        default = {"text": name, "time": None}
        return {
            FILE_DIGEST: pa.scalar(digest, pa.string()),
            FILE_NAME: pa.scalar(name, pa.string()),
            LANDED_AT: pa.scalar(self._at, pa.timestamp("us", "UTC")),
            **{key: pa.scalar(known.get(key, default[kind]), pa.string()) for key, kind in self._form.fields.items()},
        }

    def _note(self, name: str, file: Path, columns: Sequence[str], *, fits: bool) -> None:
        remarks = remarks_on(file)
        if not fits and self._form.pattern:
            remarks.append(f"the path does not match {self._form.pattern.text}")
        own = {FILE_DIGEST, FILE_NAME, FILE_LINE, LANDED_AT}
        if unknown := [
            one for one in columns if one not in {*self._form.columns, *self._form.fields, *self._form.optional} - own
        ]:
            remarks.append(f"undeclared columns: {', '.join(unknown)}")
        for remark in remarks:
            self._remarks.setdefault(remark, []).append(name)

    @property
    def _copy(self) -> Path:
        return self._scratch / "file"

    def _writer(self, target: Path) -> RowWriter:
        import pyarrow as pa

        texts = [FILE_DIGEST, FILE_NAME, *self._form.columns, *self._form.fields, *self._form.optional]
        columns = [(name, pa.string()) for name in texts]
        return RowWriter(target, [*columns, (FILE_LINE, pa.int64()), (LANDED_AT, pa.timestamp("us", "UTC"))], LINES)

    def _without_rows(self) -> Path:
        with self._writer(self._scratch / "none.parquet"):
            pass
        return self._scratch / "none.parquet"


def _remark(remark: str, names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"{', '.join(sorted(names)[:_SHOWN])}{more}: {remark}"
