"""A Dagster instance in memory, which is made once for each process: its databases take longer than most runs."""

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
    """The instance, which remembers nothing, for one at a time."""
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
