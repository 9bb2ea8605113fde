"""Limits on BLAS and OpenMP threads, for reproducible fits and for requests that do not slow each other down."""

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
    """Limit BLAS and OpenMP to one thread, because a floating-point sum depends on the number of threads."""
    # Import the libraries first, because only loaded libraries can be limited.
    import sklearn.ensemble
    import sklearn.linear_model  # noqa: F401 - loaded, not used
    from threadpoolctl import threadpool_limits

    with threadpool_limits(limits=1):
        yield


def keep_to_one_thread() -> None:
    """Permanently limit BLAS and OpenMP to one thread for calls from the current thread.

    Threads of a service score requests concurrently, so temporary limits as in `one_thread` would overwrite each other.
    OpenMP has one limit per calling thread. BLAS has one limit per process, which the first caller sets.
    """
    if not hasattr(_LIMITED, "limits"):
        _LIMITED.limits = loaded_libraries().limit(limits=1)


@cache
def loaded_libraries() -> Any:
    """Return threadpoolctl's controller for the libraries that are loaded when this function is first called."""
    # Cache the controller, because finding the libraries takes 3 ms, longer than scoring one row. The estimators are
    # loaded before the first call, so all their libraries are found.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
