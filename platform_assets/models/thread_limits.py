"""Limits on the threads of BLAS and OpenMP, so that fits are repeatable and requests do not wait for each other."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIMITED = threading.local()


@contextmanager
def one_thread() -> Iterator[None]:
    """BLAS and OpenMP with one thread: on few cores several fight each other, and sums depend on their number."""
    # Only libraries that are loaded can be limited.
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401 - loaded, not used
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def keep_to_one_thread() -> None:
    """Let the libraries work for this thread in no other one, for good; they have to be loaded.

    For a service: its requests are scored at the same time, and limits that each sets and takes back cross. OpenMP has
    a limit for each thread that calls it. BLAS has one for the process, which the first thread here sets.
    """
    if not hasattr(_LIMITED, "limits"):
        _LIMITED.limits = loaded_libraries().limit(limits=1)


@cache
def loaded_libraries() -> Any:
    """Return the threadpoolctl controller of the libraries that are loaded now."""
    # Looking for the loaded libraries takes 3 ms, longer than scoring one row; with an estimator in hand,
    # those that score are loaded.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
