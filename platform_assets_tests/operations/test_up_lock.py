from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import PlatformError
from platform_assets.operations.supervisor import Server
from platform_assets.operations.up_lock import only_one_up

if TYPE_CHECKING:
    from pathlib import Path

SERVERS = [Server("Dagster UI", ["ui"], port=3000), Server("Dagster daemon", ["daemon"])]


@pytest.mark.requirement("PLT-12")
def test_a_second_up_on_a_home_names_the_first(tmp_path: Path) -> None:
    with only_one_up(tmp_path, SERVERS):
        with pytest.raises(PlatformError) as error, only_one_up(tmp_path, SERVERS):
            pytest.fail("two of them run")
        assert str(error.value) == (
            f"`platform-assets up` already runs on {tmp_path}, as process {os.getpid()}: Dagster UI "
            "http://127.0.0.1:3000; use that one, or stop it first"
        )
        with only_one_up(tmp_path / "other", SERVERS):
            pass
    with only_one_up(tmp_path, SERVERS):
        pass
