"""`platform-assets alerts`: list, silence and close incidents."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import make_url

from platform_assets.database.connections import Database
from platform_assets_tests.command_line import Done, platform_assets
from platform_assets_tests.monitoring.incidents.conftest import Desk, desk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CAUSE = "run_failed shop/sales"


@pytest.fixture
def at(database_url: str) -> Iterator[Desk]:
    database = Database(make_url(database_url))
    yield desk(database, {})
    database.close()


@pytest.mark.requirement("MON-3")
def test_an_incident_is_listed_silenced_and_closed_by_a_person(at: Desk, database_url: str, tmp_path: Path) -> None:
    def alerts(*arguments: str) -> Done:
        variables = {"PLATFORM_HOME": str(tmp_path), "PLATFORM_DATABASE_URL": database_url, "COLUMNS": "200"}
        return platform_assets("alerts", *arguments, **variables)

    assert alerts("list").out == "no incident is open\n"
    at.incidents.open_incident(CAUSE, "the run of [shop/sales] failed", link="/runs/1", occurrence="1")
    number = str(at.only().id)
    listed = alerts("list")
    assert "run_failed: the run of [shop/sales] failed http://localhost:3000/runs/1" in listed.out
    assert "open" in listed.out
    refused = alerts("silence", number, "--reason", "known", "--for", "8 weeks")
    assert (refused.code, "--for is '8 weeks'; give minutes, hours or days" in refused.err.replace("\n", " ")) == (
        1,
        True,
    )
    silenced = alerts("silence", number, "--reason", "known", "--for", "2d")
    assert silenced.out.startswith(f"incident {number} is silenced until ")
    assert re.search(r"failed \S+/runs/1 \(silenced until \S+ \S+ UTC by .+: known\)", alerts("list").out)
    closed = alerts("close", number)
    assert f"incident {number} was closed at " in closed.out
    assert closed.out.endswith(" on the command line\n")
    assert alerts("list").out == "no incident is open\n"
    assert "closed" in alerts("list", "--all").out
    unknown = alerts("close", "99")
    assert (unknown.code, "there is no incident 99" in unknown.err) == (1, True)
