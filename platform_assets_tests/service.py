"""Fixtures for the HTTP application with a real database, for API keys, and for clients."""

from __future__ import annotations

import re
import socket
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr
from starlette.testclient import TestClient

from platform_assets.app import application
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.web import http_server
from platform_assets.web.api_keys import Keys
from platform_assets_tests.approval.evidence_proposals import proposal
from platform_assets_tests.approval.proposals import ANNA, BERT, owner_at, register
from platform_assets_tests.postgres import empty_databases, owner_of, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastapi import FastAPI
    from httpx2 import Response
    from starlette.types import ASGIApp

    from platform_assets.database.connections import Database
    from platform_assets.serving.live_models import ModelState
    from platform_assets.web.bounded_protocol import Bounds

HTML = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
LOOPBACK = "http://localhost"


@pytest.fixture(scope="module")
def services(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Services on a real database, shared by the tests of a module."""
    with empty_databases(postgres_server) as url:
        home = tmp_path_factory.mktemp("home")
        owner = SecretStr(owner_of(url))
        # Turn the rate limit off, because other tests cover it.
        services = Services(
            Settings(home=home, database_url=SecretStr(url), migration_database_url=owner, rate_limit="off")
        )
        with owner_at(url) as connection:
            register(connection, ANNA, BERT)
        yield services
        services.close()


@pytest.fixture(scope="module")
def app(services: Services) -> FastAPI:
    return application(services)


@dataclass(frozen=True)
class People:
    """API keys of people and programs."""

    anna: str
    """May read and approve."""
    bert: str
    """May approve."""
    rita: str
    """May read."""
    program: str
    """May predict."""


@pytest.fixture(scope="module")
def people(services: Services) -> People:
    add = keys_of(services).add
    return People(
        anna=add("anna-laptop", "anna", {"read", "approve"}),
        bert=add("bert-laptop", "bert", {"approve"}),
        rita=add("rita-laptop", "rita", {"read"}),
        program=add("shop", "shop", {"predict"}),
    )


@pytest.fixture
def pending(services: Services) -> int:
    """Number of a new pending approval request."""
    return services.ledger.open_request(proposal()).id


def keys_of(services: Services) -> Keys:
    """Return the store of the API keys in the database."""
    assert isinstance(services.keys, Keys)
    return services.keys


def api(app: FastAPI, secret: str = "", **options: Any) -> TestClient:
    """Return a client that sends `secret` as its API key, or no key if `secret` is empty."""
    headers = {"Authorization": f"Bearer {secret}"} if secret else {}
    return TestClient(app, base_url=LOOPBACK, headers=headers, follow_redirects=False, **options)


class Visitor:
    """A client that behaves like a browser: it keeps cookies, and the CSRF token of the last page with a form."""

    def __init__(self, app: FastAPI, base_url: str = LOOPBACK) -> None:
        self.client = TestClient(app, base_url=base_url, headers={"Accept": HTML}, follow_redirects=False)
        self.token = ""

    def see(self, path: str, **headers: str) -> Response:
        """Get a page and keep its CSRF token."""
        response = self.client.get(path, headers=headers)
        found = re.search(r'name="csrf_token" value="([^"]+)"', response.text)
        self.token = found[1] if found else self.token
        return response

    def send(self, path: str, **fields: str) -> Response:
        """Submit a form with the CSRF token of the last page."""
        return self.client.post(path, data={"csrf_token": self.token} | fields)

    def sign_in(self, secret: str) -> Visitor:
        self.see("/sign-in")
        response = self.send("/sign-in", key=secret)
        assert response.status_code == 303, response.text
        self.see("/approvals")
        return self


def wait_until_live(services: Services, *models: str) -> None:
    """Wait until each model has a live champion. The failure message shows the state of models without one."""

    def waiting() -> dict[str, ModelState]:
        states = services.live_models.state()
        return {model: states[model] for model in models if not states[model].live}

    wait_until(lambda: not waiting(), lambda: f"the champions of {', '.join(models)} were live; state: {waiting()}")


def listening() -> socket.socket:
    """Return a socket that listens on a free port, for an application that must know its own address."""
    return socket.create_server(("127.0.0.1", 0))


@contextmanager
def served(app: ASGIApp, bounds: Bounds | None = None, on: socket.socket | None = None) -> Iterator[str]:
    """Serve an application on a free port or a given socket, with the server that `platform-assets serve` runs."""
    server = http_server.server(app, bounds)
    with on or listening() as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            wait_until(lambda: server.started, f"the server listened on {listener.getsockname()}")
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
