"""Replacement for the Python command of pytest-xdist, which makes each worker a warm process (`warm.py`).

Arguments: the socket of the warm parent, and Python's arguments, the last of which is a program.
"""

from __future__ import annotations

import sys
from pathlib import Path

from platform_assets_tests import warm_parent


def main(path: str, *arguments: str) -> None:
    answers = warm_parent.asked(Path(path), warm_parent.python, arguments[-1:], [0, 1, 2])
    answers.readline()
    sys.exit(abs(int(answers.readline())))


if __name__ == "__main__":
    main(*sys.argv[1:])
