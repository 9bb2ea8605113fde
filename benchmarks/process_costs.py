"""Measure the time, CPU time and peak memory of a piece of work, in this process, its children and given servers."""

from __future__ import annotations

import json
import math
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import psutil

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

Result = TypeVar("Result")
KIB_PER_MIB = 1 << 10


@dataclass(frozen=True)
class Cost:
    """Cost of one piece of work.

    Attributes
    ----------
    what
        Name of the work.
    work
        Number of units of work, for example rows.
    seconds
        Elapsed time.
    cpu_seconds
        CPU time of all processes.
    peak_mib
        Sum of the peak memory of all processes, in MiB. NaN on systems other than Linux.
    """

    what: str
    work: int
    seconds: float
    cpu_seconds: float
    peak_mib: float


def measured(what: str, work: int, do: Callable[[], Result], servers: Collection[int] = ()) -> Result:
    """Do the work, and print its cost as one line of JSON.

    Parameters
    ----------
    what
        Name of the work.
    work
        Number of units of work.
    do
        Function that does the work.
    servers
        Process ids of servers that do a part of the work. Their children count too.
    """
    _reset_peaks(servers)
    cpu, start = _cpu_seconds(servers), time.perf_counter()
    result = do()
    seconds = time.perf_counter() - start
    cost = Cost(what, work, seconds, _cpu_seconds(servers) - cpu, _peak_mib(servers))
    print(json.dumps(asdict(cost)), flush=True)
    return result


def _processes(servers: Collection[int]) -> Iterator[psutil.Process]:
    for pid in (None, *servers):
        process = psutil.Process(pid)
        yield process
        yield from process.children(recursive=True)


def _cpu_seconds(servers: Collection[int]) -> float:
    total = 0.0
    for process in _processes(servers):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            # The last two numbers are the CPU times of children that have ended.
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _reset_peaks(servers: Collection[int]) -> None:
    for process in _processes(servers):
        # Writing 5 to this file resets the peak of the resident memory. The file exists only on Linux.
        with suppress(OSError):
            Path(f"/proc/{process.pid}/clear_refs").write_text("5")


def _peak_mib(servers: Collection[int]) -> float:
    if not Path("/proc/self/status").exists():
        return math.nan
    peak = 0
    for process in _processes(servers):
        with suppress(OSError):
            lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
            peak += sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    return peak / KIB_PER_MIB
