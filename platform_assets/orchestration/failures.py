"""Step failures: an expected error shows its message only, a defect keeps its traceback."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from platform_assets.base.errors import PlatformError


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turn a `PlatformError` into a step failure without retries."""
    try:
        yield
    except PlatformError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
