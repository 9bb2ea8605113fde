"""Stands for Python where pytest-xdist starts a worker: the worker is a warm process (`warm.py`) as well.

Arguments: the warm parent's socket, and those of Python, of which the last is a program.
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
