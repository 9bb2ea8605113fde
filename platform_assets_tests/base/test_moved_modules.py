"""Former paths of modules lead to the modules of today, in a process that imports nothing but them."""

from __future__ import annotations

import subprocess
import sys

import pytest

from platform_assets.base.moved_modules import MOVED


@pytest.mark.requirement("PLT-14")
def test_a_former_path_is_the_module_of_today() -> None:
    code = f"""
from importlib import import_module
for former, now in {MOVED!r}.items():
    assert import_module(former) is import_module(now), former
    assert import_module(now).__spec__.name == now
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_other_modules_that_are_not_there_are_missing_as_ever() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"platform_assets\.core\.ledger"):
        __import__("platform_assets.core.ledger")
