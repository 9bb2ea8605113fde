"""Proxy in front of fake-gcs-server for delta-rs, which uses Google's XML API.

fake-gcs-server accepts writes only through the JSON API, so the proxy translates them and assembles multipart uploads.
It also implements two features that the server ignores: the precondition that Delta commits depend on, and the
parameter `start-after` of listings.
"""

from __future__ import annotations

import http.client
import json
import threading
import uuid
from collections import defaultdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import ClassVar, NamedTuple
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.etree import ElementTree as ET

_FORWARDED = {"range", "content-type"}
_OF_CONNECTION = {"content-length", "transfer-encoding", "connection"}


class Answer(NamedTuple):
    """Status, headers and body of a response."""

    status: int
    headers: dict[str, str]
    body: bytes


def ask(address: str, method: str, path: str, body: bytes = b"", headers: dict[str, str] | None = None) -> Answer:
    """Send one request to `host:port`, and return the response."""
    connection = http.client.HTTPConnection(address)
    connection.request(method, path, body, headers or {})
    answer = connection.getresponse()
    found = Answer(answer.status, dict(answer.getheaders()), answer.read())
    connection.close()
    return found


class XmlWrites(BaseHTTPRequestHandler):
    """One connection to the proxy. Set `behind` to the address of fake-gcs-server."""

    protocol_version = "HTTP/1.1"
    # With Nagle's algorithm, each response is delayed by 40 ms, because headers and body are sent separately.
    disable_nagle_algorithm = True
    behind: ClassVar[str] = ""
    writing: ClassVar[threading.Lock] = threading.Lock()
    parts: ClassVar[defaultdict[str, dict[int, bytes]]] = defaultdict(dict)

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        answer = self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        length = answer.headers.get("Content-Length") if self.command == "HEAD" else None
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            if name.lower() not in _OF_CONNECTION:
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(answer.body)))
        self.end_headers()
        self.wfile.write(answer.body)

    def _answer(self, body: bytes) -> Answer:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        if "uploads" in query:
            return Answer(HTTPStatus.OK, {}, _xml("InitiateMultipartUploadResult", "UploadId", uuid.uuid4().hex))
        if "uploadId" in query:
            return self._part(query["uploadId"][0], query.get("partNumber", [""])[0], body)
        if self.command == "PUT":
            return self._write(body)
        headers = {name: value for name, value in self.headers.items() if name.lower() in _FORWARDED}
        answer = ask(self.behind, self.command, self.path, body, headers)
        after = query.get("start-after")
        return answer._replace(body=_listed_after(answer.body, after[0])) if after else answer

    def _part(self, upload: str, number: str, body: bytes) -> Answer:
        if self.command == "PUT":
            self.parts[upload][int(number)] = body
            return Answer(HTTPStatus.OK, {"ETag": f'"{number}"'}, b"")
        parts = self.parts.pop(upload, {})
        if self.command == "DELETE":
            return Answer(HTTPStatus.NO_CONTENT, {}, b"")
        answer = self._write(b"".join(parts[number] for number in sorted(parts)))
        return answer._replace(body=_xml("CompleteMultipartUploadResult", "ETag", answer.headers.get("ETag", "")))

    def _write(self, body: bytes) -> Answer:
        bucket, name = (quote(unquote(part), safe="") for part in urlsplit(self.path).path.lstrip("/").split("/", 1))
        if source := self.headers.get("x-goog-copy-source"):
            old_bucket, old = (quote(part, safe="") for part in unquote(source).lstrip("/").split("/", 1))
            path = f"/storage/v1/b/{old_bucket}/o/{old}/rewriteTo/b/{bucket}/o/{name}"
        else:
            path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={name}"
        with self.writing:
            if not self._is_as_expected():
                return Answer(HTTPStatus.PRECONDITION_FAILED, {}, b"")
            answer = ask(self.behind, "POST", path, body)
        if answer.status != HTTPStatus.OK:
            return answer
        stored = json.loads(answer.body)
        stored = stored.get("resource", stored)
        return Answer(HTTPStatus.OK, {"ETag": f'"{stored["etag"]}"', "x-goog-generation": stored["generation"]}, b"")

    def _is_as_expected(self) -> bool:
        """Check the precondition, which fake-gcs-server ignores. The generation of a missing object is 0."""
        wanted = self.headers.get("x-goog-if-generation-match")
        found = ask(self.behind, "HEAD", urlsplit(self.path).path) if wanted else None
        return found is None or found.headers.get("X-Goog-Generation", "0") == wanted


def _listed_after(listing: bytes, after: str) -> bytes:
    """Leave out the names up to `after`, because fake-gcs-server ignores `start-after`."""
    root = ET.fromstring(listing)
    for found in root.findall("Contents"):
        if found.findtext("Key", "") <= after:
            root.remove(found)
    return ET.tostring(root)


def _xml(kind: str, name: str, value: str) -> bytes:
    return f'<?xml version="1.0"?><{kind}><{name}>{value.replace(chr(34), "")}</{name}></{kind}>'.encode()
