"""Fetch a file from a web server with one streamed GET request, and refuse it if it was replaced during the download.

The file is never requested in ranges, because two ranges may come from two versions. Servers need not support
ranges or HEAD requests. `source_files.py` decides which sources are URLs.
"""

from __future__ import annotations

import math
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.landing.file_remarks import shows_its_end
from platform_assets.landing.packed_files import CHUNK_BYTES, HEAD_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from requests import Response

SECONDS = (10, 60)
"""Timeouts: to connect, and between two pieces of an answer."""
HEAD_SECONDS = 10
FRESH_SECONDS = 2
"""Age below which a file's time does not identify its version: web servers and some disks round times to seconds."""
HEADERS = {"Accept-Encoding": "identity", "Cache-Control": "no-cache"}
# Accept the encoding that a file was uploaded with, because object stores send it even if it was not requested.
# `packed_files.py` later detects the file's format from its first bytes and unpacks it, so these encodings are not
# decoded here.
_BY_FIRST_BYTES = frozenset({"", "identity", "gzip", "x-gzip", "zstd", "aws-chunked"})


class WebError(SourceError):
    """A web server did not send the whole file. The message leaves out the file's address."""


def chunks(address: str) -> Iterator[bytes]:
    """Yield the bytes of a file, in chunks.

    Parameters
    ----------
    address
        URL of the file, which may contain a user and a password.

    Raises
    ------
    WebError
        The server did not send the whole file, or the file was replaced during the download. Also raised if it is
        unknown whether the file is complete: neither the server nor the file's format shows where the file ends.
    """
    with _answer(address) as answer:
        encoding = answer.headers.get("Content-Encoding", "").strip().lower()
        if encoding not in _BY_FIRST_BYTES:
            raise WebError(f"the server sent the unsupported Content-Encoding {encoding}; configure it to send none")
        is_bounded = answer.raw.chunked or answer.raw.length_remaining is not None
        head, read = b"", 0
        # Read the raw stream, because `iter_content` would decode it.
        for chunk in answer.raw.stream(CHUNK_BYTES, decode_content=False):
            head, read = (head + chunk)[:HEAD_BYTES] if len(head) < HEAD_BYTES else head, read + len(chunk)
            yield chunk
        before = _version(answer.headers)
    headers = _head(address)
    # Without a length, a broken connection looks like the end of the file. A second GET would not help, because it may
    # break at the same byte.
    if not (is_bounded or shows_its_end(head) or headers.get("Content-Length") == str(read)):
        raise WebError(
            f"the server does not state the length of the file, so the {read:,} bytes received may be incomplete; "
            "configure it to send Content-Length, or compress the file with gzip, or download the file and check it"
        )
    after = _version(headers)
    # Compare only the first header that both answers have: the entity tag, else the time. Servers of one site may give
    # the same file different times.
    mark = next((name for name in before if name in after), None)
    if mark and before[mark] != after[mark]:
        raise WebError("the file was replaced during the download; run again")


def facts(address: str) -> dict[str, str]:
    """Return the entity tag, modification time and size of a file.

    The result is empty if these do not identify the file's version: there is no entity tag, and the time is missing or
    recent.
    """
    headers = _head(address)
    version = _version(headers)
    if "ETag" not in version and _seconds_since_change(headers) < FRESH_SECONDS:
        return {}
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
                raise WebError(f"the server returned HTTP {answer.status_code} {answer.reason} instead of 200")
            yield answer
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        raise WebError(_reason(error)) from None


def _reason(error: Exception) -> str:
    """Return the innermost reason of an error, because the outer ones contain the path of the address."""
    inner = error.args[0] if error.args else error
    reason = getattr(inner, "reason", inner)
    return f"{type(reason if isinstance(reason, Exception) else error).__name__}: {reason}"


def _head(address: str) -> Mapping[str, str]:
    """Return the headers of a file; empty if the server refuses HEAD requests. Signed URLs only allow GET."""
    import requests

    try:
        answer = requests.head(address, headers=HEADERS, allow_redirects=True, timeout=HEAD_SECONDS)
    except requests.RequestException:
        return {}
    return answer.headers if answer.status_code == HTTPStatus.OK else {}


def _seconds_since_change(headers: Mapping[str, str]) -> float:
    """Return the age of a file by its server's clock; infinity if the headers do not contain it."""
    try:
        return abs(
            (parsedate_to_datetime(headers["Date"]) - parsedate_to_datetime(headers["Last-Modified"])).total_seconds()
        )
    except (KeyError, ValueError, TypeError):
        return math.inf


def _version(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[name].removeprefix("W/") for name in ("ETag", "Last-Modified") if name in headers}
