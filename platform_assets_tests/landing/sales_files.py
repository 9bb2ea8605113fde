"""Files of sales to land, a server for them, and the rows and refusals that come of it."""

from __future__ import annotations

import http.server
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.base.errors import SourceError
from platform_assets.landing.landed_rows import land
from platform_assets.landing.row_writer import ERROR, LINE, LINES, TEXT
from platform_assets.landing.source_files import Source

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine

SETTING = "PLATFORM_SHOP_SALES_URI"
PASSWORD = "sesame"
CONTENT = b"a,b\n1,2\n"
Row = dict[str, Any]


def folders(engine: Engine) -> list[str]:
    """What is left of landed files."""
    return sorted(path.name for path in engine.folder("probe").parent.glob("landing-*"))


def landed(engine: Engine, uri: str | Path) -> list[Row]:
    """The rows of a file, without how many lines each has."""
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


class Files(http.server.BaseHTTPRequestHandler):
    """Serves one file, and the beginning of one that ends too early."""

    def do_GET(self) -> None:
        known = self.path.split("?")[0] in {"/sales.csv", "/cut.csv"}
        self.send_response(200 if known else 404)
        self.send_header("Content-Length", str(len(CONTENT) + (10 if "cut" in self.path else 0)) if known else "0")
        self.end_headers()
        self.wfile.write(CONTENT if known else b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def serving_files() -> Iterator[str]:
    server = http.server.HTTPServer(("127.0.0.1", 0), Files)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
