"""Sales files for the landing tests, with functions that return the resulting rows or errors."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.base.errors import SourceError
from platform_assets.landing.landed_rows import land
from platform_assets.landing.row_writer import ERROR, LINE, LINES, TEXT
from platform_assets.landing.source_files import Source

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine

SETTING = "PLATFORM_SHOP_SALES_URI"
PASSWORD = "sesame"
CONTENT = b"a,b\n1,2\n"
Row = dict[str, Any]


def folders(engine: Engine) -> list[str]:
    """Return the names of the engine's folders for landed files. A finished landing leaves none."""
    return sorted(path.name for path in engine.folder("probe").parent.glob("landing-*"))


def landed(engine: Engine, uri: str | Path) -> list[Row]:
    """Land a file and return its rows, without the column of line counts."""
    with land(Source(SETTING, str(uri)), engine) as file:
        kept = [name for name in file.rows.columns if name != LINES]
        rows: list[Row] = file.rows.select(kept).order_by(LINE).to_pyarrow().to_pylist()
    return rows


def read(engine: Engine, folder: Path, content: bytes) -> list[Row]:
    path = folder / "file.csv"
    path.write_bytes(content)
    return landed(engine, path)


def good(line: int, *values: str | None) -> Row:
    return {LINE: line, ERROR: None, TEXT: None, **dict(zip("ab", values, strict=True))}


def bad(line: int, error: str, text: str) -> Row:
    return {LINE: line, ERROR: error, TEXT: text, "a": None, "b": None}


def refused(engine: Engine, uri: str | Path) -> str:
    before = folders(engine)
    with pytest.raises(SourceError) as caught:
        land(Source(SETTING, str(uri)), engine)
    assert folders(engine) == before
    assert caught.value.__suppress_context__ or "://" not in str(uri)
    assert PASSWORD not in str(caught.value)
    return str(caught.value).replace(str(uri), "<uri>")
