"""Conversion from UTC to local time around clock changes and at the ends of days and months."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pandas as pd

from platform_assets.engine.local_time import local_time

if TYPE_CHECKING:
    from platform_assets.engine.query_engine import Engine

UTC_TIMES = [
    "2016-12-31 22:59:59",
    "2016-12-31 23:00:00",
    "2017-03-26 00:59:59",
    "2017-03-26 01:00:00",
    "2017-10-29 00:30:00",
    "2017-10-29 01:30:00",
    "2019-03-31 21:59:59",
    "2019-03-31 22:00:00",
]


def test_local_times_equal_those_of_the_standard_library(engine: Engine) -> None:
    rows = engine.as_expression(pd.DataFrame({"at": pd.to_datetime(UTC_TIMES).astype("datetime64[us]")}))
    found = rows.mutate(local=local_time(rows.at, "Europe/Madrid")).to_pyarrow().to_pydict()
    zone = ZoneInfo("Europe/Madrid")
    expected = {at: datetime.fromisoformat(f"{at}+00:00").astimezone(zone).replace(tzinfo=None) for at in UTC_TIMES}
    assert dict(zip(map(str, found["at"]), found["local"], strict=True)) == expected
