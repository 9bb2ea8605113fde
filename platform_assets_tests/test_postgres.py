"""Failure messages of the test helpers that wait for a condition."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from platform_assets.serving.live_models import ModelState
from platform_assets_tests import service
from platform_assets_tests.postgres import wait_until


def test_a_timed_out_wait_shows_its_condition_and_the_last_state() -> None:
    states = iter("abc")
    with pytest.raises(pytest.fail.Exception, match="^still not true after 0 s: it ended; state: a$"):
        wait_until(lambda: False, lambda: f"it ended; state: {next(states)}", 0)


def test_a_timed_out_wait_for_champions_shows_the_state_of_models_without_a_champion(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    states: dict[str, Any] = {"good": SimpleNamespace(live=True), "bad": ModelState(failure="its file is missing")}
    services: Any = SimpleNamespace(live_models=SimpleNamespace(state=lambda: states))
    monkeypatch.setattr(service, "wait_until", lambda condition, what: wait_until(condition, what, 0))
    with pytest.raises(pytest.fail.Exception) as failed:
        service.wait_until_live(services, "good", "bad")
    assert "the champions of good, bad were live; state: {'bad': ModelState(" in str(failed.value)
    assert "its file is missing" in str(failed.value)
