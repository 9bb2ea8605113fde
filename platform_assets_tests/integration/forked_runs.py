"""Starts `platform-assets run` again and again, each in a process of its own that need not import anything.

For each line on standard input, a JSON object, it forks a process, which leads a group of its own and does what the
command does: with these `variables` of the environment, printing to this `output` file. The answer is a line: the
process id; when the process has ended, another line: how, as `os.waitstatus_to_exitcode` says.
"""

from __future__ import annotations

import importlib
import json
import os
import sys

# What a run imports, the heaviest first. None of them starts a thread or opens anything.
IMPORTED = (
    "great_expectations",
    "great_expectations.expectations",
    "mlflow",
    "ibis",
    "duckdb",
    "pandas",
    "deltalake",
    "dagster_postgres",
    "psycopg",
    "platform_assets.definitions",
)


def main() -> None:
    from platform_assets import cli

    for name in IMPORTED:
        importlib.import_module(name)
    sys.argv = ["platform-assets", "run"]
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            os.setsid()
            order = json.loads(line)
            os.environ.update(order["variables"])
            output = os.open(order["output"], os.O_WRONLY | os.O_CREAT, 0o600)
            for number, file in enumerate((os.open(os.devnull, os.O_RDONLY), output, output)):
                os.dup2(file, number)
            cli.main()
            sys.exit(0)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
