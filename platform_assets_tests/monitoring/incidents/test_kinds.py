"""Each kind of incident has a runbook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from platform_assets.monitoring.incidents.kinds import KINDS

PAGE = Path(__file__).parents[3] / "docs" / "alerts.md"


def runbooks() -> set[str]:
    """Return the names of the runbooks that have a text."""
    found = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    texts = {text.split("\n", 1)[0].strip(): text.split("\n", 1)[1].strip() for text in found}
    return {name for name, text in texts.items() if text}


@pytest.mark.requirement("MON-3")
@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_has_a_runbook(kind: str) -> None:
    assert kind in runbooks()
    [section] = re.findall(rf"^### {kind}\n(.*?)(?=^##)", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert "- **Look at** " in section
    assert "- **Fix:** " in section
