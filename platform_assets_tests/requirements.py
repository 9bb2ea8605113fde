"""Report which tests cover each numbered requirement: `python -m platform_assets_tests.requirements`.

The report lists exactly the tests that pytest collects.
"""

from __future__ import annotations

import contextlib
import io
import re
import sys
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "requirements.md"

_REQUIREMENT = re.compile(r"^- ([A-Z]{3}-\d+) (.+(?:\n  .+)*)", re.MULTILINE)


@cache
def known_requirements() -> dict[str, str]:
    """Return the text of each requirement in `docs/requirements.md` as one line, keyed by its number."""
    return {number: " ".join(text.split()) for number, text in _REQUIREMENT.findall(PAGE.read_text())}


def numbers(item: pytest.Item) -> list[str]:
    """Return the requirement numbers that a test is marked with."""
    return [str(number) for mark in item.iter_markers("requirement") for number in mark.args]


def problems(item: pytest.Item) -> list[str]:
    """Return messages about invalid requirement marks of a test."""
    unknown = [number for number in numbers(item) if number not in known_requirements()]
    found = [f"{item.nodeid}: {number} is not in docs/requirements.md" for number in unknown]
    if any(not mark.args for mark in item.iter_markers("requirement")):
        found.append(f'{item.nodeid}: the mark names no requirement; name one, such as requirement("PLT-6")')
    return found


class _Collected:
    """A pytest plugin that stores the collected tests."""

    def __init__(self) -> None:
        self.items: list[pytest.Item] = []

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.items = session.items


def report(tests: dict[str, Counter[str]]) -> str:
    """Format the report: number, text and tests of each requirement, then the requirements without tests."""
    lines = []
    for number, text in known_requirements().items():
        lines.append(f"{number}  {text}")
        lines += [f"    {test}" + (f"  ({cases} cases)" if cases > 1 else "") for test, cases in tests[number].items()]
    gaps = [number for number in known_requirements() if not tests[number]]
    proven = len(known_requirements()) - len(gaps)
    lines += ["", f"{proven} of {len(known_requirements())} requirements have a test."]
    lines += [f"Gaps: {', '.join(gaps) or 'none'}"]
    return "\n".join(lines)


def main() -> int:
    """Print the report; return 1 if the tests cannot be collected."""
    collected = _Collected()
    with contextlib.redirect_stdout(io.StringIO()) as output:
        failed = pytest.main(
            ["--collect-only", "-q", "-p", "no:cacheprovider", str(Path(__file__).parent)], plugins=[collected]
        )
    if failed:
        sys.stderr.write(output.getvalue())
        return 1
    tests: dict[str, Counter[str]] = defaultdict(Counter)
    for item in collected.items:
        for number in numbers(item):
            tests[number][item.nodeid.split("[")[0]] += 1
    sys.stdout.write(report(tests) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
