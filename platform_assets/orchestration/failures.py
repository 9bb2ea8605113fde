"""What a person can mend ends a step with its message alone; what is a defect keeps its trace."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from platform_assets.base.errors import PlatformError


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turn a `PlatformError` into the failure of a step that is not tried again."""
    try:
        yield
    except PlatformError as error:
        raise dg.Failure(str(error), allow_retries=False) from None
