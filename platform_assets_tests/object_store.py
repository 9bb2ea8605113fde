"""An S3 object store (moto) that runs in its own process, on a free port.

It needs its own process, because some functions of delta-rs hold Python's global interpreter lock while they wait for a
response.
"""

from __future__ import annotations

import http.client
import logging
import subprocess
import sys
import threading
import uuid
from collections import Counter
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, ClassVar
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from collections.abc import Iterator

FAILURES = (503, 500)
SECRET = "nobody-may-read-this"


class ObjectStore:
    """A running object store; `lake` creates a new bucket."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    @property
    def options(self) -> dict[str, str]:
        """Return the storage options for a `TableStore`."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "tests",
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": "us-east-1",
        }

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment variables for fsspec's driver."""
        return self.options

    def lake(self) -> str:
        import boto3

        bucket = f"lake-{uuid.uuid4().hex}"
        client = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id="tests",
            aws_secret_access_key=SECRET,
        )
        client.create_bucket(Bucket=bucket)
        client.close()
        return f"s3://{bucket}/lake"


@contextmanager
def running_object_store(behind: str = "", refused: str = "") -> Iterator[ObjectStore]:
    """Run an object store, or an unreliable proxy to an object store.

    Parameters
    ----------
    behind
        Endpoint of another object store. If it is given, run a proxy to it, which fails the first two attempts of each
        request and then forwards the request.
    refused
        Suffix of paths for which the proxy answers PUT with 403; empty for none.
    """
    with subprocess.Popen(
        [sys.executable, "-m", __name__, behind, refused],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as server:
        assert server.stdout is not None
        yield ObjectStore(server.stdout.readline().strip())
        # Close standard input, which ends the server. If the tests are killed, standard input closes too.
        server.communicate()


def _serve() -> None:
    from moto.moto_server.werkzeug_app import create_backend_app
    from werkzeug.serving import make_server

    # Serve only S3, and log only errors: moto's service detection and logging take as long as the request itself.
    server = make_server("127.0.0.1", 0, create_backend_app("s3"), threaded=True)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    announce(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


def _serve_badly(behind: str, refused: str) -> None:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _BadLine)
    _BadLine.behind, _BadLine.refused = urlsplit(behind).netloc, refused
    threading.Thread(target=server.serve_forever, daemon=True).start()
    announce(f"http://127.0.0.1:{server.server_port}")
    server.shutdown()
    server.server_close()


class _BadLine(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behind = ""
    refused = ""
    failed: ClassVar[Counter[str]] = Counter()

    def handle_one_request(self) -> None:
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.refused and self.command == "PUT" and urlsplit(self.path).path.endswith(self.refused):
            self._answer(403, {}, b"<Error><Code>AccessDenied</Code></Error>")
            return
        request = f"{self.command} {self.path}"
        if self.failed[request] < len(FAILURES):
            self._answer(FAILURES[self.failed[request]], {}, b"")
            self.failed[request] += 1
            return
        connection = http.client.HTTPConnection(self.behind)
        connection.request(self.command, self.path, body, dict(self.headers))
        answer = connection.getresponse()
        self._answer(answer.status, dict(answer.getheaders()), answer.read())
        connection.close()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        length = headers.get("Content-Length") if self.command == "HEAD" else None
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def announce(endpoint: str) -> None:
    """Print the server's endpoint for the parent process, and wait until standard input is closed."""
    sys.stdout.write(f"{endpoint}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    if sys.argv[1]:
        _serve_badly(*sys.argv[1:])
    else:
        _serve()
