"""Lineage events, sent by the sensor to a receiver that checks them against the published schema."""

import http.server
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import jsonschema
import pytest

from platform_assets.definitions import defs
from platform_assets.monitoring.trace.open_lineage import NAMESPACE, LineageError, LineageReceiver
from platform_assets.monitoring.trace.sensors import lineage_sensor
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.serving_thread import serving

pytestmark = pytest.mark.requirement("MON-4")

TEXT = {"type": "string", "minLength": 1}
FACETS = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "required": ["_producer", "_schemaURL"],
        "properties": {"_producer": {"format": "uri"}, "_schemaURL": {"format": "uri"}},
    },
}


def named(*facets: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": ["namespace", "name"],
        "properties": {"namespace": TEXT, "name": TEXT, **dict.fromkeys(("facets", *facets), FACETS)},
    }


# Requirements of https://openlineage.io/spec/2-0-2/OpenLineage.json for a RunEvent.
RUN_EVENT = {
    "type": "object",
    "required": ["eventTime", "producer", "schemaURL", "run", "job"],
    "properties": {
        "eventTime": {"type": "string", "format": "date-time"},
        "eventType": {"enum": ["START", "RUNNING", "COMPLETE", "ABORT", "FAIL", "OTHER"]},
        "producer": {"type": "string", "format": "uri"},
        "schemaURL": {"type": "string", "pattern": "^https://openlineage.io/spec/2-0-2/.*/RunEvent$"},
        "run": {
            "type": "object",
            "required": ["runId"],
            "properties": {"runId": {"type": "string", "format": "uuid"}, "facets": FACETS},
        },
        "job": named(),
        "inputs": {"type": "array", "items": named("inputFacets")},
        "outputs": {"type": "array", "items": named("outputFacets")},
    },
}
VALIDATOR = jsonschema.Draft202012Validator(RUN_EVENT, format_checker=jsonschema.FormatChecker())


class Catalogue(http.server.BaseHTTPRequestHandler):
    """Stores valid events, and responds 422 to invalid events. If `server.status` is set, always responds with it."""

    server: "CatalogueServer"

    def do_POST(self) -> None:
        event = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        status = self.server.status or (201 if VALIDATOR.is_valid(event) and self.path == "/api/v1/lineage" else 422)
        if status == 201:
            self.server.received.append(event)
            self.server.keys.add(self.headers.get("Authorization"))
        self.send_response(status)
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        pass


class CatalogueServer(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Catalogue)
        self.status = 0
        self.received: list[dict[str, Any]] = []
        self.keys: set[str | None] = set()
        self.url = f"http://127.0.0.1:{self.server_port}"


@contextmanager
def catalogue() -> Iterator[CatalogueServer]:
    server = CatalogueServer()
    with serving(server):
        yield server


@dg.asset(key_prefix="shop")
def sales() -> dg.MaterializeResult:  # type: ignore[type-arg]
    facts: dict[str, Any] = {
        "version": 3,
        "digest": "d",
        "source": "s3://bucket/in/sales.csv (SALES_URI)",
        "source_digest": "ab12",
    }
    return dg.MaterializeResult(metadata={**facts, "dagster/row_count": 7, "dagster/uri": "/lake/shop/sales"})


@dg.asset(key_prefix="shop", deps=[sales])
def breakage_model() -> dg.MaterializeResult:  # type: ignore[type-arg]
    return dg.MaterializeResult(metadata={"inputs": {"shop/sales": {"version": 3}}, "model_version": 5, "digest": "m"})


def tick(instance: dg.DagsterInstance, server: CatalogueServer, cursor: str | None) -> str | None:
    """Evaluate the sensor, and return its new cursor."""
    context = dg.build_sensor_context(
        instance, cursor, resources={"lineage_receiver": LineageReceiver(server.url, "sesame")}
    )
    try:
        lineage_sensor()(context)
    finally:
        cursor = context.cursor
    return cursor


def test_each_new_version_is_sent_as_one_run_with_its_input_versions() -> None:
    with empty_instance() as instance, catalogue() as server:
        run = dg.materialize([sales, breakage_model], instance=instance).run_id
        cursor = tick(instance, server, None)
        assert tick(instance, server, cursor) == cursor
    table, model = (
        [event for event in server.received if event["job"]["name"] == name]
        for name in ("shop/sales", "shop/breakage_model")
    )
    for events in (table, model):
        assert [event["eventType"] for event in events] == ["START", "COMPLETE"]
        assert len({event["run"]["runId"] for event in events}) == 1
        assert {event["run"]["facets"]["parent"]["run"]["runId"] for event in events} == {run}
    assert len(server.received) == 4
    assert server.keys == {"Bearer sesame"}

    def shown(dataset: dict[str, Any]) -> tuple[str, str, str]:
        return dataset["namespace"], dataset["name"], dataset["facets"]["version"]["datasetVersion"]

    assert [shown(one) for one in table[1]["inputs"]] == [("s3://bucket", "in/sales.csv", "ab12")]
    assert [shown(one) for one in table[1]["outputs"]] == [(NAMESPACE, "shop/sales", "3")]
    assert table[1]["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 7
    assert [shown(one) for one in model[1]["inputs"]] == [(NAMESPACE, "shop/sales", "3")]
    assert [shown(one) for one in model[1]["outputs"]] == [(NAMESPACE, "shop/breakage_model", "5")]


def test_events_that_the_receiver_refuses_are_sent_again() -> None:
    with empty_instance() as instance, catalogue() as server:
        dg.materialize([sales], instance=instance)
        server.status = 403
        with pytest.raises(dg.Failure, match="returned HTTP 403 for a lineage event; check PLATFORM_OPENLINEAGE_URL"):
            tick(instance, server, None)
        assert server.received == []
        server.status = 0
        assert tick(instance, server, None) is not None
        assert len(server.received) == 2


def test_an_unreachable_receiver_is_reported_without_its_password() -> None:
    with pytest.raises(LineageError, match=r"cannot be reached \(\w+\)") as error:
        LineageReceiver("http://anna:sesame@127.0.0.1:1").send(events())
    assert "sesame" not in str(error.value)


def events() -> list[Any]:
    from datetime import UTC, datetime

    from platform_assets.monitoring.trace.open_lineage import Materialised, events_of

    now = datetime(2026, 3, 1, tzinfo=UTC)
    return events_of(Materialised("shop/sales", "6b1f0c1e-5d0f-4a57-9d5b-3f2f7a0c8c11", "job", now, now))


def test_the_sensor_exists_only_if_a_receiver_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def sensors() -> set[str]:
        return {sensor.name for sensor in defs().sensors or ()}

    assert "lineage_events" not in sensors()
    monkeypatch.setenv("PLATFORM_OPENLINEAGE_URL", "http://127.0.0.1:5000")
    assert "lineage_events" in sensors()
