"""Kill the prediction step before each call to the database or the lake, and let the next run store the predictions.

`main` forks a child process for each kill. Run this module in a new process: in a process whose libraries have already
started threads, the children would lack those threads. Each child first completes the work of the previous child, which
was killed, and prints one line with the faults that it finds in the results. Then it lands more files, and is killed
while it makes predictions for them.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import deltalake
import deltalake.transaction
import psycopg

from platform_assets.domains.sensor_maintenance.defs import predictions, readings_incoming
from platform_assets.domains.sensor_maintenance.schemas import DEVICES, PREDICTIONS
from platform_assets_tests.domains.sensor_maintenance.plant import Plant, open_plant

if TYPE_CHECKING:
    from collections.abc import Callable

NAMES = [column.name for column in PREDICTIONS.columns]
# Driver functions through which all database statements, database commits and lake commits go.
CALLS: tuple[tuple[Any, str], ...] = (
    (psycopg.Cursor, "execute"),
    (psycopg.Cursor, "copy"),
    (psycopg.Transaction, "__exit__"),
    (deltalake.DeltaTable, "create_write_transaction"),
    (deltalake.transaction, "create_table_with_add_actions"),
)


class Fuse:
    """Counts calls, and kills this process just before the call with the given number."""

    def __init__(self, number: int) -> None:
        self.left = number

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        """Return a wrapper of `call` that counts the call first.

        Kills after a call need no test: they have the same effect as a kill before the next call.
        """

        @functools.wraps(call)
        def burning(*arguments: Any, **options: Any) -> Any:
            self.burn()
            return call(*arguments, **options)

        return burning


def dropped(number: int) -> list[str]:
    """Return the names of the files that the child process with this number writes and loads."""
    return [f"pump_{number}/20260301T0{minute}00Z.txt" for minute in (1, 2)]


def land(plant: Plant, number: int) -> None:
    for name in dropped(number):
        plant.drop(name, (float(number), 0.25), (-0.5, float(len(name))), (float(number), float(name[-8:-5])))
    plant.run(readings_incoming)


def faults(plant: Plant, children: int) -> list[str]:
    """Describe the lost, duplicate or inconsistent results of a complete run.

    `children` is the number of children that have landed files so far.
    """
    names = [name for number in range(1, children + 1) for name in dropped(number)]
    in_database, in_lake = plant.in_database(*NAMES), plant.in_lake(*NAMES)
    found = [] if in_database == in_lake else ["the lake differs from the database"]
    keys = sorted((row[2], row[1]) for row in in_database)
    if keys != sorted((name, line) for name in names for line in (2, 3, 4)):
        found.append(f"predicted: {keys}")
    if plant.states() != dict.fromkeys(names, "processed"):
        found.append(f"states: {plant.states()}")
    devices = plant.services.online.read(DEVICES.name).column("device").to_pylist()
    if sorted(devices) != sorted({name.partition("/")[0] for name in names}):
        found.append(f"devices: {devices}")
    return found


def child(url: str, home: Path, number: int) -> None:
    """Complete the work of the previous child, land files, and make predictions until the fuse kills the process."""
    plant = Plant(open_plant(home, url))
    if number == 1:
        plant.promote(2.0)
    else:
        plant.run()
        sys.stdout.write(f"{number - 1} {'; '.join(faults(plant, number - 1)) or 'consistent'}\n")
        sys.stdout.flush()
    land(plant, number)
    fuse = Fuse(number)
    for owner, name in CALLS:
        setattr(owner, name, fuse.around(getattr(owner, name)))
    plant.run(predictions)
    plant.run()
    sys.stdout.write(f"{number} {'; '.join(faults(plant, number)) or 'completed'}\n")
    sys.stdout.flush()


def main(url: str, path: str) -> None:
    number, killed = 0, True
    while killed:
        number += 1
        process = os.fork()
        if process == 0:
            child(url, Path(path), number)
            os._exit(0)
        _, status = os.waitpid(process, 0)
        killed = os.WIFSIGNALED(status)
        if not killed and os.waitstatus_to_exitcode(status):
            sys.exit(f"child {number} failed")
