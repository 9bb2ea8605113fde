"""The command `shadow`, and the output of `decide` about a shadow."""

from __future__ import annotations

import uuid
from contextlib import closing
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from platform_assets.serving.shadow_rows import ShadowRow
from platform_assets.serving.shadow_store import LedgerShadows
from platform_assets_tests.approval.proposals import ANNA, MODEL
from platform_assets_tests.approval.test_commands import Desk, desk, refused  # noqa: F401 - the fixture

if TYPE_CHECKING:
    from platform_assets.approval.shadows import Shadow


def score(desk: Desk, shadow: Shadow) -> None:  # noqa: F811 - the fixture
    """Write one score of the shadow, as the service does."""
    row = ShadowRow(shadow, datetime.now(UTC), "r-1", 0, None, 0.7, 0.2, agrees=False)
    services = desk.services
    with closing(LedgerShadows(services._own_connection, lambda: (services.ledger, services.shadow_ledger))) as store:
        store.write(uuid.uuid4(), [row], {})


@pytest.mark.requirement("PRO-4", "PRO-5", "PRO-6")
def test_the_command_starts_lists_and_stops_a_shadow(desk: Desk) -> None:  # noqa: F811 - the fixture
    assert desk.do("shadow").out == "there are no shadows\n"
    refused(desk.do("shadow", MODEL, "2"), f"{MODEL} version 2 has no pending request .*decide request {MODEL} 2")
    for command in (["shadow", "nosuch", "1"], ["export", "nosuch", "folder"]):
        refused(desk.do(*command), "there is no model 'nosuch'; choose one of ")
    first = desk.ask(1)
    refused(desk.do("shadow", MODEL, "1"), f"request 1 .*: {MODEL} has no champion")
    desk.ledger.decide(first.id, "approve", ANNA, "good")
    desk.ledger.promoted(first.id)
    second = desk.ask(2, champion=(1, first.digest))
    started = desk.do("shadow", MODEL, "2", "--days", "2")
    assert started.code == 0, started.err
    assert f"{MODEL} version 2 scores the champion's requests until " in started.out
    listed = desk.do("shadow").out
    assert "running" in listed
    refused(desk.do("shadow", MODEL), f"give the version of {MODEL} .* or --stop")
    assert "less than or equal to 31" in desk.do("shadow", MODEL, "2", "--days", "40").err
    assert "less than or equal to 31" in desk.do("shadow", MODEL, "2", "--days", "9" * 20).err
    refused(desk.do("shadow", MODEL, "3", "--stop"), "is version 2, not 3")

    score(desk, desk.services.shadow_ledger.running(MODEL))
    stopped = desk.do("shadow", MODEL, "--stop")
    assert stopped.out.startswith(f"the shadow of {MODEL} version 2 was stopped")
    refused(desk.do("shadow", MODEL, "--stop"), f"no shadow of {MODEL} is running")
    shown = desk.do("decide", "show", str(second.id)).out
    for expected in ("ended: stopped by", "1 row of 1 request", "request r-1 row 1: champion 0.2, challenger 0.7"):
        assert expected in shown
    assert desk.do("decide", "reject", str(second.id), "--reason", "worse").code == 0
    report = next(one for one in desk.ledger.history(second.id) if one.kind == "report_shadow")
    assert desk.last(second.id).seen_report == report.sequence
    assert desk.ledger.audit() == []
