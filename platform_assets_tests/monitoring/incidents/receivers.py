"""Receivers of messages on loopback: a web server that can fail, and a mail server."""

from __future__ import annotations

import asyncio
import email.policy
import http.server
import json
import os
import signal
import threading
from contextlib import contextmanager
from email.message import EmailMessage
from email.parser import BytesParser
from typing import TYPE_CHECKING, Any

from platform_assets_tests.serving_thread import serving

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiosmtpd.smtp import Envelope

SECRET_PATH = "/services/hunter2"
KILL = -1


class _Webhook(http.server.BaseHTTPRequestHandler):
    server: WebhookServer

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._answer(json.loads(body) | {"header": self.headers["Idempotency-Key"]})

    def do_GET(self) -> None:
        self._answer({"path": self.path})

    def _answer(self, received: dict[str, Any]) -> None:
        self.server.received.append(received)
        status = self.server.statuses.pop(0) if len(self.server.statuses) > 1 else self.server.statuses[0]
        if status == KILL:
            os.kill(self.server.victim, signal.SIGKILL)
        elif status:
            self.send_response(status)
            self.end_headers()
        else:
            self.server.released.wait()

    def log_message(self, *_: Any) -> None:
        pass


class WebhookServer(http.server.ThreadingHTTPServer):
    """Responds to the n-th message with the n-th status, and repeats the last status for all later messages.

    For the status 0, the server sends no response. For KILL, it kills the sender.
    """

    def __init__(self, *statuses: int) -> None:
        super().__init__(("127.0.0.1", 0), _Webhook)
        self.statuses = [*statuses]
        self.received: list[dict[str, Any]] = []
        self.released = threading.Event()
        self.victim = 0
        self.url = f"http://anna:sesame@127.0.0.1:{self.server_port}{SECRET_PATH}"

    @property
    def told(self) -> list[str]:
        """For each received message: state and cause of its incident."""
        return [f"{one['state']} {one['event']} {one['subject']}" for one in self.received]


@contextmanager
def webhook(*statuses: int) -> Iterator[WebhookServer]:
    server = WebhookServer(*(statuses or (200,)))
    with serving(server):
        try:
            yield server
        finally:
            server.released.set()


class Mailbox:
    """Handler of the mail server, which stores the received emails."""

    def __init__(self, *answers: str) -> None:
        self.answers = [*answers]
        self.mails: list[EmailMessage] = []
        self.url = ""

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Envelope) -> str:  # noqa: N802 - its name in aiosmtpd
        answer = self.answers.pop(0) if self.answers else "250 OK"
        if answer.startswith("250"):
            parsed = BytesParser(EmailMessage, policy=email.policy.default).parsebytes(envelope.content or b"")  # type: ignore[arg-type]
            self.mails.append(parsed)
        return answer


@contextmanager
def mail_server(*answers: str, **options: Any) -> Iterator[Mailbox]:
    """Run a mail server. It answers the first emails with `answers`, and accepts all later emails."""
    from aiosmtpd.controller import Controller

    class AnyPort(Controller):
        def _trigger_server(self) -> None:
            # Store the port that the operating system chose, because aiosmtpd connects to it in the next call.
            assert isinstance(self.server, asyncio.Server)
            self.port = self.server.sockets[0].getsockname()[1]
            super()._trigger_server()  # type: ignore[no-untyped-call]  # aiosmtpd's

    box = Mailbox(*answers)
    controller = AnyPort(box, hostname="127.0.0.1", port=0, **options)
    controller.start()
    box.url = f"smtp://127.0.0.1:{controller.port}"
    try:
        yield box
    finally:
        controller.stop()
