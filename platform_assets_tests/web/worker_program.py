"""A service with several workers and without HTTP: `python worker_program.py COUNT FOLDER BEHAVIOUR`.

Each worker writes its process id to the file `FOLDER/<number>` when it is ready, and then sleeps.

With the behaviour `asks`, worker 1 calls the other workers. Worker 2 answers, worker 3 raises an exception, and the
remaining workers do not answer. Worker 1 then writes to `FOLDER/answers` the numbers of the workers that answered, and
the total size of their answers.
"""

from __future__ import annotations

import logging
import signal
import sys
import time
from os import getpid
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.web.workers import run_workers

if TYPE_CHECKING:
    from platform_assets.web.workers import Worker

ANSWER = b"two" * 100_000


def main() -> None:
    count, folder, behaviour = int(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

    def serve(worker: Worker) -> None:
        if behaviour == "cannot start" or (behaviour == "first only" and not worker.is_first):
            sys.stderr.write(f"worker {worker.number} cannot start\n")
            sys.exit(7)
        if behaviour == "killed at start":
            signal.raise_signal(signal.SIGKILL)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        if worker.number == 2:
            worker.calls.answer(2, lambda: ANSWER)
        if worker.number == 3:
            worker.calls.answer(3, lambda: bytes([1 // 0]))
        worker.announce()
        temporary = folder / f"new-{getpid()}"
        temporary.write_text(str(getpid()))
        temporary.rename(folder / str(worker.number))
        if behaviour == "dies":
            sys.exit(3)
        if behaviour == "asks" and worker.is_first:
            # Send enough calls to fill the channel of worker 4, which does not answer.
            for _ in range(30):
                worker.calls.ask(worker.others, 0.01)
            while not (answers := worker.calls.ask(worker.others, 0.5)):
                pass
            (folder / "answers").write_text(f"{sorted(answers)} {sum(map(len, answers.values()))}")
        time.sleep(600)

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    run_workers(count, serve)


main()
