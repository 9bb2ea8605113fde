"""Step failures: show only the message of an expected error, but keep the traceback of a defect."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg
from dagster._utils.error import SerializableErrorInfo  # type: ignore[attr-defined]  # Dagster does not export it

from platform_assets.base.errors import PlatformError

UNKNOWN = "no reason was recorded"
INTERRUPTED = "interrupted; run again"
INTERRUPTIONS = frozenset({"DagsterExecutionInterruptedError", "KeyboardInterrupt"})
DUCKDB_INTERRUPTION = "RuntimeError: Query interrupted"


@contextmanager
def plain_failures() -> Iterator[None]:
    """Turn a `PlatformError` into a step failure without retries."""
    try:
        yield
    except PlatformError as error:
        raise dg.Failure(str(error), allow_retries=False) from None


def innermost(error: SerializableErrorInfo | None) -> str:
    """Return the message of the innermost error in the chain of causes; empty without an error."""
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else ""


def reason(error: SerializableErrorInfo | None) -> str:
    """Return the reason why a step failed, without the names of exception classes."""
    text = innermost(error)
    if text == DUCKDB_INTERRUPTION or text.split(":")[0].rpartition(".")[2] in INTERRUPTIONS:
        return INTERRUPTED
    return re.sub(r"^(dagster\._core\.definitions\.events\.Failure|platform_assets\.[\w.]+): ", "", text) or UNKNOWN
