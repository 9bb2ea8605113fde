"""A web server for tests, which can answer with wrong lengths, encodings and headers, as some real servers do."""

from __future__ import annotations

import http.server
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from platform_assets_tests.serving_thread import serving

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass
class Page:
    """The server's response for one path.

    Attributes
    ----------
    content
        The body.
    headers
        Headers of the response to GET, other than the calculated `Content-Length`.
    status
        Status of the response to GET.
    promised
        Number of bytes by which `Content-Length` exceeds the body. If None, the server does not calculate
        `Content-Length`, so that the body ends when the connection closes.
    head
        Headers of the response to HEAD. If None, HEAD is refused with 405.
    """

    content: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: int = 200
    promised: int | None = 0
    head: dict[str, str] | None = None


class Server(http.server.ThreadingHTTPServer):
    """Serves pages, and records the method, path and `Range` header of each request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.requests: list[tuple[str, str, str | None]] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        page = self._page()
        if page is None:
            return
        self.send_response(page.status)
        for name, value in page.headers.items():
            self.send_header(name, value)
        if page.promised is not None:
            self.send_header("Content-Length", str(len(page.content) + page.promised))
        elif page.headers.get("Transfer-Encoding") == "chunked":
            page = replace(page, content=b"%x\r\n%s\r\n0\r\n\r\n" % (len(page.content), page.content))
        self.end_headers()
        self.wfile.write(page.content)

    def do_HEAD(self) -> None:
        page = self._page()
        if page is None:
            return
        self.send_response(405 if page.head is None else 200)
        for name, value in (page.head or {}).items():
            self.send_header(name, value)
        self.end_headers()

    def _page(self) -> Page | None:
        path = self.path.split("?")[0]
        self.server.requests.append((self.command, path, self.headers["Range"]))
        page = self.server.pages.get(path)
        if page is None:
            self.send_error(404)
        return page

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def running_web_server() -> Iterator[Server]:
    server = Server()
    with serving(server):
        yield server
