"""Compare implementations of the same work. Each runs in its own process, and only one process works at a time."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

MIB = 1 << 20
KIB = 1 << 10


@dataclass
class Way:
    """One implementation of the work. Its process does the work once for each line that it receives on standard input.

    Attributes
    ----------
    name
        Name in the table.
    command
        Module and arguments of the process. The module must call `take_turns`.
    """

    name: str
    command: Sequence[str]
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mib: float = 0.0
    _process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", *self.command]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.take_turn()
        self.cpu_seconds.clear()
        self.seconds.clear()  # not counted: the first run imports libraries, fills caches and starts the engine

    def take_turn(self) -> None:
        assert self._process
        assert self._process.stdin
        assert self._process.stdout
        print(file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            sys.exit(f"{self.name} failed with exit code {self._process.wait()}; its error message is above")
        turn = json.loads(answer)
        self.seconds.append(turn["seconds"])
        self.cpu_seconds.append(turn["cpu_seconds"])
        self.peak_mib = turn["peak_mib"]

    def stop(self) -> None:
        assert self._process
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def compare(title: str, ways: Sequence[Way], rounds: int, reference: str) -> None:
    """Run the implementations in turn, and print a table of their times, CPU times and peak memory.

    The table shows the median, minimum and maximum time of each implementation. The ratios compare its median time and
    its median CPU time with those of the reference.
    """
    for way in ways:
        way.start()
    for _ in range(rounds):
        for way in ways:
            way.take_turn()
    for way in ways:
        way.stop()
    base = next(way for way in ways if way.name == reference)
    usual, usual_cpu = median(base.seconds), median(base.cpu_seconds)
    print(f"\n{title}; medians of {rounds} alternating runs, after a warm-up run")
    print(f"{'':38}{'seconds':>9}{'min':>8}{'max':>8}{'ratio':>8}{'CPU s':>8}{'ratio':>8}{'peak MiB':>10}")
    for way in ways:
        middle, cpu = median(way.seconds), median(way.cpu_seconds)
        print(
            f"{way.name:38}{middle:9.3f}{min(way.seconds):8.3f}{max(way.seconds):8.3f}"
            f"{middle / usual:8.2f}{cpu:8.3f}{cpu / usual_cpu:8.2f}{way.peak_mib:10.0f}"
        )


def take_turns(prepare: Callable[[], Callable[[], object]]) -> None:
    """Do the work once for each line on standard input. `prepare` returns the work.

    The time of `prepare` is not measured. After each run of the work, a line of JSON is printed, with the time, the CPU
    time and the peak memory so far.
    """
    for _ in sys.stdin:
        work = prepare()
        start, cpu = time.perf_counter(), time.process_time()
        work()
        seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - cpu
        print(json.dumps({"seconds": seconds, "cpu_seconds": cpu_seconds, "peak_mib": _peak_mib()}), flush=True)


def _peak_mib() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        # Don't use `ru_maxrss`: on Linux, a child process inherits its parent's value, so a lower peak would be hidden.
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * KIB / MIB
    unit = 1 if sys.platform == "darwin" else KIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / MIB
