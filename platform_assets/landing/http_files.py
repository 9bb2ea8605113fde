"""Files on web servers: one GET request for the whole file, streamed, and its version checked.

The file is never requested in ranges, because two ranges may come from two versions. Servers need neither ranges nor
HEAD requests. `source_files.py` decides which sources are web addresses.
"""

from __future__ import annotations

from contextlib import contextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.landing.packed_files import CHUNK_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requests import Response

SECONDS = (10, 60)
"""Time-outs: to connect, and between two pieces of an answer."""
HEAD_SECONDS = 10
HEADERS = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
# Object stores send the encoding that a file was uploaded with, requested or not. The first bytes of the file
# decide whether it is unpacked, so these encodings need no work here.
_BY_FIRST_BYTES = frozenset({"", "identity", "gzip", "x-gzip", "zstd", "aws-chunked"})


class WebError(SourceError):
    """A web server's answer is not the whole file. The message does not name the file."""


def chunks(address: str) -> Iterator[bytes]:
    """Yield a file from beginning to end.

    Parameters
    ----------
    address
        The web address, which may hold user and password.

    Raises
    ------
    WebError
        The answer is not the whole file, ends early, or the file was replaced before the answer ended.
    """
    with _answer(address) as answer:
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _BY_FIRST_BYTES:
            raise WebError(f"the server sent the unsupported Content-Encoding {encoding}; let it send none")
        # As it came: `iter_content` would undo the encoding.
        yield from answer.raw.stream(CHUNK_BYTES, decode_content=False)
        before = _version(answer.headers)
    after = _version(_head(address))
    # By the first header that both answers have, because servers of one site may disagree about the time.
    mark = next((name for name in before if name in after), None)
    if mark and before[mark] != after[mark]:
        raise WebError("the file was replaced while it was fetched; run again")


def facts(address: str) -> dict[str, str]:
    """Return facts about a file that change when the file is written; empty if the server gives none."""
    headers = _head(address)
    version = _version(headers)
    return {**version, "size": headers.get("Content-Length", "")} if version else {}


def demand_file(address: str) -> None:
    """Check that a server has the file; raise a `WebError` if not. The content is not read."""
    with _answer(address):
        pass


@contextmanager
def _answer(address: str) -> Iterator[Response]:
    import requests
    import urllib3

    try:
        with requests.get(address, headers=HEADERS, stream=True, timeout=SECONDS) as answer:
            if answer.status_code != HTTPStatus.OK:
                raise WebError(f"the server answered {answer.status_code} {answer.reason}; 200 is needed")
            yield answer
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise WebError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Return the innermost reason, without the path that the libraries quote around it."""
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", inner)
    return f"{type(reason if isinstance(reason, Exception) else error).__name__}: {reason}"


def _head(address: str) -> Mapping[str, str]:
    """Return the headers of a file; empty if the server does not answer HEAD requests, as with signed addresses."""
    import requests

    try:
        answer = requests.head(address, headers=HEADERS, allow_redirects=True, timeout=HEAD_SECONDS)
    except requests.RequestException:
        return {}
    return answer.headers if answer.status_code == HTTPStatus.OK else {}


def _version(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name].removeprefix("W/") for name in ("ETag", "Last-Modified") if name in headers}
