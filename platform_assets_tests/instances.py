"""An in-memory Dagster instance, created once per process, because creating it takes longer than most runs."""

from __future__ import annotations

import atexit
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING

import dagster as dg

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def empty_instance() -> Iterator[dg.DagsterInstance]:
    """Yield the process's instance, and empty it afterwards. Only one such context may be open at a time."""
    instance = _instance()
    try:
        yield instance
    finally:
        instance.wipe()


@cache
def _instance() -> dg.DagsterInstance:
    instance = dg.DagsterInstance.ephemeral()
    atexit.register(instance.dispose)
    return instance
