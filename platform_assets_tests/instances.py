"""A Dagster instance in memory, one per process, because creating its databases takes longer than most runs."""

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
    """Yield the empty instance; only one context at a time."""
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
