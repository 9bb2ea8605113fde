"""An outage of PostgreSQL: routes that need it return 503, other routes work, and the service recovers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from platform_assets.app import application
from platform_assets.database.connections import embedded_database
from platform_assets.database.embedded.server import APP, Server, ServerFolder
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets.web import middleware
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import copy_home, wait_until
from platform_assets_tests.service import api, keys_of
from platform_assets_tests.serving import credit, sentences
from platform_assets_tests.test_app import problem

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from starlette.testclient import TestClient

CLIENT = credit.FIRST_CLIENT
FEATURES, PREDICTIONS = f"/features/credit-risk/{CLIENT}", "/predictions/credit-risk"


@pytest.fixture
def server(migrated_home: Path, tmp_path: Path) -> Iterator[Server]:
    """A PostgreSQL server for one test, always on the same port."""
    copy_home(migrated_home, tmp_path / "home")
    port = reserve_port()
    server = Server(ServerFolder(tmp_path / "home" / "postgres"), ports=lambda: port)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def services(server: Server, tmp_path: Path) -> Iterator[Services]:
    password = ServerFolder(tmp_path / "home" / "postgres").password(APP)
    url = embedded_database(server.port, APP, password).url("platform").set(drivername="postgresql")
    secret = SecretStr(url.render_as_string(hide_password=False))
    services = Services(Settings(home=tmp_path / "service", database_url=secret))
    yield services
    services.close()


def predicted(client: TestClient) -> Any:
    return client.post(PREDICTIONS, json={"client_id": CLIENT})


@pytest.mark.requirement("SRV-1", "PRO-8")
def test_the_service_survives_a_postgresql_outage_and_recovers_without_a_restart(
    server: Server, services: Services
) -> None:
    credit.publish_features(services, 20)
    credit.crown(services, credit.fitted(services), 1, 0.5)
    client = api(application(services, host="127.0.0.1"))
    with client:
        wait_until(lambda: predicted(client).status_code == 200, "a prediction was answered")
        first = predicted(client).json()
        server.stop()
        assert client.get("/health/live").status_code == 200
        for response in (client.get("/health/ready"), client.get(FEATURES), predicted(client)):
            found = problem(response)
            assert (found["status"], found["type"]) == (503, "urn:platform-assets:database-unavailable")
            assert response.headers["retry-after"] == "5"
            assert str(server.port) not in response.text
        # Routes that need no database still work.
        [listed] = [one for one in client.get("/models").json() if one["model"] == MODEL.name]
        assert listed["champion"]["version"] == 1
        metrics = client.get("/metrics")
        assert "platform_database_up 0.0" in metrics.text
        assert "platform_features_age_seconds{" not in metrics.text
        server.start()
        wait_until(lambda: client.get("/health/ready").status_code == 200, "the service was ready again")
        wait_until(lambda: predicted(client).json() == first, "predictions were answered again")
        wait_until(lambda: services.prediction_log.queued == 0, "the log was written")
    assert services.prediction_log.dropped == 0


@pytest.mark.requirement("SRV-3")
def test_a_key_used_before_an_outage_can_read_the_metrics_during_the_outage(server: Server, services: Services) -> None:
    keys = keys_of(services)
    reads, revoked, unused, predicts = (
        keys.add(name, name, {scope})
        for name, scope in (("scraper", "read"), ("old", "read"), ("new", "read"), ("shop", "predict"))
    )
    app = application(services)

    def status(key: str) -> int:
        return api(app, key).get("/metrics").status_code

    assert [status(key) for key in (reads, revoked, predicts)] == [200, 200, 403]
    keys.revoke("old")
    wait_until(lambda: status(revoked) == 401, "the revoked key was refused")
    server.stop()
    response = api(app, reads).get("/metrics")
    assert response.status_code == 200
    assert "platform_database_up 0.0" in response.text
    assert [status(key) for key in (revoked, unused, predicts, "wrong")] == [503] * 4
    assert status("") == 401
    assert api(app, reads).get("/models").status_code == 503


@pytest.mark.requirement("SRV-3")
def test_a_prediction_that_must_be_logged_first_gets_503_if_it_cannot_be_logged(
    server: Server, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(middleware, "LOGGED_SECONDS", 0.3)
    settings = services.settings.model_copy(update={"predictions_logged": "before"})
    first = Services(settings)
    sentences.crown(first, sentences.fitted(), 1)
    with api(application(first, close=True, host="127.0.0.1")) as client:

        def status() -> int:
            return client.post("/predictions/sentence-relevance", json={"sentence": "a fire"}).status_code

        # Count the rows immediately, because the row must have been committed before the response was sent.
        wait_until(lambda: status() == 200, "a prediction was answered")
        with first.database.connect("platform") as connection:
            assert connection.execute("select count(*) from platform.predictions").fetchone() == (1,)
        server.stop()
        assert status() == 503
        server.start()
        wait_until(lambda: status() == 200, "predictions were answered again")
