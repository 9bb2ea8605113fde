"""Exit a process without tearing down its modules.

After a run, the teardown of all imported libraries takes two seconds, a fifth of the run. The operating system frees
the memory at once.
"""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 1
UNTOLD = 120
"""Python's exit code if the remaining output cannot be written."""


def call_and_leave(function: Callable[[], None]) -> NoReturn:
    """Call a function, and end the process with the code of its `SystemExit`, or with 0.

    Like Python, this waits for threads, calls `atexit` functions and flushes the output. Any other exception
    propagates.
    """
    code: int | str | None = 0
    try:
        function()
    except SystemExit as end:
        code = end.code
    if isinstance(code, str):
        sys.stderr.write(f"{code}\n")
        code = FAILED
    threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - Python has no public function for it
    atexit._run_exitfuncs()  # noqa: SLF001 - as above
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or UNTOLD
    os._exit(code or 0)
