"""Program for a warm process (`warm.py`): a run on a full disk, between two successful runs.

Arguments: the lake's folder, and two source files. All other settings come from the environment. The program prints the
outcome as JSON.
"""

from __future__ import annotations

import json
import sys
from contextlib import suppress
from pathlib import Path

from platform_assets.settings import load_settings
from platform_assets_tests.command_line import digests, platform_assets
from platform_assets_tests.small_disk import mount_small_disk


def main(lake: str, first: str, second: str) -> None:
    mount_small_disk(lake, 2)
    good = platform_assets("run", PLATFORM_LAKE_URI=lake, PLATFORM_CREDIT_LOANS_URI=first)
    settings = load_settings().model_copy(update={"lake_uri": lake})
    before = digests(settings)
    ballast = Path(lake, "ballast")
    with ballast.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4_096))
    full = platform_assets("run", PLATFORM_LAKE_URI=lake, PLATFORM_CREDIT_LOANS_URI=second)
    after = digests(settings)
    ballast.unlink()
    again = platform_assets("run", PLATFORM_LAKE_URI=lake, PLATFORM_CREDIT_LOANS_URI=second)
    json.dump(
        {
            "codes": [good.code, full.code, again.code],
            "printed": full.printed,
            "unchanged": before == after and None not in before.values(),
            "recovered": None not in digests(settings).values() and digests(settings) != before,
        },
        sys.stdout,
    )
