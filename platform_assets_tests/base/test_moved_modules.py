"""Imports of modules by their former paths, in a new process and in the test process."""

from __future__ import annotations

import subprocess
import sys

import pytest

from platform_assets.base.moved_modules import MOVED


@pytest.mark.requirement("PLT-14")
def test_importing_a_former_path_gives_the_current_module() -> None:
    code = f"""
from importlib import import_module
for former, now in {MOVED!r}.items():
    assert import_module(former) is import_module(now), former
    assert import_module(now).__spec__.name == now
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_an_unknown_module_still_fails() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"platform_assets\.core\.ledger"):
        __import__("platform_assets.core.ledger")
