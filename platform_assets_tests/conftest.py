"""Pytest configuration of all tests: a clean environment, the real data, a browser, marks and the order of tests."""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from platform_assets_tests import requirements

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from playwright.sync_api import Browser

pytest_plugins = [
    "platform_assets_tests.postgres",
    "platform_assets_tests.service",
    "platform_assets_tests.warm",
    "platform_assets_tests.mariadb",
    "platform_assets_tests.cloud_stores",
    "platform_assets_tests.sql_targets",
    "platform_assets_tests.spark",
    "platform_assets_tests.redis_server",
]

REAL_DATA = "PLATFORM_REAL_DATA"
OPTIONAL = {
    "release": ("RELEASE_TESTS", ".ci/run"),
    "nightly": ("NIGHTLY_TESTS", "the nightly workflow"),
}
"""Tests that are skipped by default: their marker, the variable that enables them, and what usually runs them."""
CHROMIUM = "chromium"

# Ignore the example domain, because its imports work only in the copy of the project in which
# `test_example_domain.py` runs its tests.
collect_ignore = ["integration/example_domain"]

# Use the same Hypothesis examples on every machine. Set no deadline, because tests must not fail on slow machines.
hypothesis.settings.register_profile("platform", derandomize=True, deadline=None)
hypothesis.settings.load_profile("platform")


def _is_ours(variable: str) -> bool:
    return variable.startswith(("PLATFORM_", "AWS_", "AZURE_", "GOOGLE_")) or variable == "DAGSTER_HOME"


def pytest_configure() -> None:
    # Clean the environment before collection, because collection imports definitions, which read variables. Clean it
    # only once, because module-scoped fixtures set variables. Workers inherit the cleaned environment.
    for variable in filter(_is_ours, list(os.environ)):
        if variable != REAL_DATA:
            del os.environ[variable]


@pytest.fixture(autouse=True)
def _no_variable_of_the_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(REAL_DATA, raising=False)


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real data sets."""
    folder = os.environ.get(REAL_DATA, "")
    if not folder:
        pytest.skip(f"needs the real data sets: set {REAL_DATA} to their folder")
    if not Path(folder).is_absolute() or not Path(folder).is_dir():
        pytest.fail(f"{REAL_DATA} is {folder!r}, which is not the absolute path of a folder")
    return Path(folder)


@pytest.fixture
def browser() -> Iterator[Browser]:
    """Headless Chromium for one test. It is closed after the test, because its event loop would disturb other tests."""
    with started_browser() as browser:
        yield browser


@contextmanager
def started_browser() -> Iterator[Browser]:
    """Run headless Chromium until the context ends. Use this only in modules whose tests need no other event loop."""
    from playwright.sync_api import sync_playwright

    executable = shutil.which(CHROMIUM)
    if executable is None:
        pytest.skip(f"needs a browser: apt-get install {CHROMIUM}")
    # As root, Chromium refuses to start with its sandbox.
    arguments = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, headless=True, args=arguments)
        yield browser
        browser.close()


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    items = [item for item in report.result or () if isinstance(item, pytest.Item)]
    problems = [problem for item in items for problem in requirements.problems(item)]
    if problems:
        report.outcome = "failed"
        report.longrepr = "\n".join(problems)
        report.result = []
    return report


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    # Mark tests that use the fixtures `browser` and `real_data`, so that for example `-m "not browser"` deselects them.
    for item in items:
        for mark in {"browser", "real_data"}.intersection(getattr(item, "fixturenames", ())):
            item.add_marker(mark)
        for mark, (name, where) in OPTIONAL.items():
            # Skip the test, because it takes minutes and another command runs it.
            if item.get_closest_marker(mark) and os.environ.get(name) != "1":
                item.add_marker(pytest.mark.skip(f"{mark} test, which {where} runs: set {name}=1 to run it here"))
    # Run modules with slow tests first, so that all workers finish at about the same time. Of these modules, run the
    # integration tests first. Within a module, run slow tests first. Workers take modules in this order
    # (--no-loadscope-reorder). A worker takes its next module when it has two tests left.
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    place = {path: number for number, path in enumerate(dict.fromkeys(item.path for item in items))}

    def turn(item: pytest.Item) -> tuple[bool | int, ...]:
        is_whole, is_quick = item.path.parent.name == "integration", item.get_closest_marker("slow") is None
        return item.path not in slow, not is_whole, place[item.path], is_quick

    items.sort(key=turn)
