"""Dagster's UI refuses requests of other web sites, whichever command starts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from dagster_webserver import cli
from dagster_webserver.webserver import DagsterWebserver
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from platform_assets.orchestration.storage import dagster_home_for_servers
from platform_assets.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    import dagster as dg

ADDRESS = "http://127.0.0.1:3000"
PUBLIC = "https://dagster.example.org"
CROSS_SITE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document", "Accept": "text/html"}
VERSION = "{ version }"


def mutation(name: str) -> str:
    return f'mutation {{ setConcurrencyLimit(concurrencyKey: "{name}", limit: 1) }}'


@pytest.fixture
def with_ui(instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Function that runs `dagster-webserver`, and calls a given function with a test client of its application.

    uvicorn is replaced, so that the application runs in this process.
    """
    assert not instance.is_ephemeral
    monkeypatch.setenv("DAGSTER_HOME", str(dagster_home_for_servers(load_settings())))
    monkeypatch.setenv("PLATFORM_DAGSTER_URL", PUBLIC)
    # Restore the class after the test, because the guard replaces it.
    monkeypatch.setattr("dagster_webserver.app.DagsterWebserver", DagsterWebserver)

    def start(use: Callable[[TestClient], None], *options: str) -> None:
        used: list[Any] = []

        def run(application: Any, **_: Any) -> None:
            used.append(application)
            use(TestClient(application, base_url=ADDRESS, follow_redirects=False))

        monkeypatch.setattr("dagster_webserver.cli.uvicorn.run", run)
        cli.cli(["--empty-workspace", *options], standalone_mode=False)
        assert len(used) == 1

    return start


@pytest.mark.requirement("PRO-3")
@pytest.mark.parametrize("prefix", ["", "/ui"])
def test_only_requests_of_the_ui_itself_and_of_programs_are_executed(
    with_ui: Callable[..., None], instance: dg.DagsterInstance, prefix: str
) -> None:
    path = f"{prefix}/graphql"

    def attack(client: TestClient) -> None:
        def refused(status: int, answer: Any) -> None:
            assert (answer.status_code, "setConcurrencyLimit" in answer.text) == (status, False), answer.text

        get = {"query": mutation("get")}
        refused(403, client.get(path, params=get, headers=CROSS_SITE))
        # An image in Markdown of the UI itself, and an image of another site for which the browser sends no header.
        refused(405, client.get(path, params=get, headers=CROSS_SITE | {"Sec-Fetch-Site": "same-origin"}))
        refused(405, client.get(path, params=get))
        refused(405, client.get(f"{prefix}/%67raphql", params=get))
        refused(405, client.head(path, params=get))
        refused(405, client.get(path, params=get, headers=LINK | {"Sec-Fetch-Site": "cross-site"}))
        foreign = {"Origin": "https://evil.example", "Content-Type": "text/plain"}
        refused(403, client.post(path, params={"query": mutation("post")}, headers=foreign))
        refused(403, client.post(path, json={"query": mutation("host")}, headers={"Host": "evil.example:3000"}))
        with (
            pytest.raises(WebSocketDisconnect),
            client.websocket_connect(path, subprotocols=["graphql-ws"], headers={"Origin": "https://evil.example"}),
        ):
            pass

    def use(client: TestClient) -> None:
        assert client.get(path, headers=LINK | {"Sec-Fetch-Site": "cross-site"}).text.count("GraphiQL") > 0
        assert client.get(f"{prefix}/assets", headers=LINK | {"Sec-Fetch-Site": "cross-site"}).status_code == 200
        assert "version" in client.post(path, json={"query": VERSION}).json()["data"]
        own = {"Origin": PUBLIC, "Host": "dagster.example.org"}
        assert client.post(path, json={"query": mutation("own")}, headers=own).json()["data"] is not None
        with client.websocket_connect(path, subprotocols=["graphql-ws"], headers=own) as websocket:
            websocket.send_json({"type": "connection_init"})
            assert websocket.receive_json() == {"type": "connection_ack"}

    options = ("--path-prefix", prefix) if prefix else ()
    with_ui(attack, *options)
    assert instance.event_log_storage.get_concurrency_keys() == set()
    with_ui(use, *options)
    assert instance.event_log_storage.get_concurrency_keys() == {"own"}
