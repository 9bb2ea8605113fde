"""Run `platform-assets` inside the test process, so that slow imports happen only once.

Tests that need a separate process start `PROGRAM`, or a warm process (`warm.py`).
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from platform_assets import cli, definitions
from platform_assets.domains.credit_risk.model import MODEL
from platform_assets.models.registry import CHALLENGER
from platform_assets.orchestration.run_locks import _all_run_locks
from platform_assets.services import Services

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from platform_assets.settings import Settings

PROGRAM = str(Path(sys.executable).with_name("platform-assets"))
LOGGERS = (
    None,
    "great_expectations",
    "dagster",
    "sqlalchemy",
    "platform_assets",
    "platform_assets.orchestration.run_locks",
)
NO_USER = 54_321
"""A user id without an entry in /etc/passwd."""
AS_NO_USER = (
    *("setpriv", f"--reuid={NO_USER}", f"--regid={NO_USER}", "--clear-groups"),
    # Keep CAP_DAC_OVERRIDE, because Python may be installed below a folder that only root may enter.
    *("--inh-caps=+dac_override", "--ambient-caps=+dac_override"),
)
"""Prefix that makes a command run as the user `NO_USER`. Only root can use it."""
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="must run commands as another user: run the tests as root")
LAKE_TABLES = ("credit_risk/loans", "credit_risk/loans_quarantine", "credit_risk/loan_features")
ONLINE_TABLES = ("credit_risk/client_features",)
OTHER_ROWS = 200
"""PLATFORM_DEMO_ROWS for tests that write their own loans. The other domains still need demo rows for training."""


@dataclass(frozen=True)
class Done:
    """Exit code, stdout and stderr of a command."""

    code: int
    out: str
    err: str

    @property
    def printed(self) -> str:
        return self.out + self.err


def platform_assets(*arguments: str, **variables: str | Path | float) -> Done:
    """Run `platform-assets` with arguments and additional environment variables.

    Always pass PLATFORM_DATABASE_URL, because otherwise an embedded server would run until the test process ends.
    """
    out, err = StringIO(), StringIO()
    with pytest.MonkeyPatch.context() as patch, _as_in_a_new_process():
        for name, value in variables.items():
            patch.setenv(name, str(value))
        patch.setattr(sys, "argv", ["platform-assets", *arguments])
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            cli.main()
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


def digests(settings: Settings) -> Mapping[str, str | None]:
    """Return the content digest of each credit risk table; None for a table that was never published."""
    services = Services(settings)
    try:
        versions = [services.tables.current(name) for name in LAKE_TABLES]
        online = [services.online.current(name) for name in ONLINE_TABLES]
        found = {version.name: version.digest for version in (*versions, *online) if version}
        return {name: found.get(name) for name in (*LAKE_TABLES, *ONLINE_TABLES)}
    finally:
        services.close()


def models(settings: Settings) -> Mapping[int, str]:
    """Return the artefact digest of each version of the credit risk model, after checking that each artefact loads."""
    services = Services(settings)
    try:
        registry, name = services.registry, MODEL.name
        versions = registry.versions(name)
        for version in versions:
            assert services.artefacts.load(version.digest).features == tuple(MODEL.feature_names)
            assert registry.record(name, version.version)["threshold"] == version.threshold
        assert registry.by_alias(name, CHALLENGER) == next(iter(versions), None)
        return {version.version: version.digest for version in versions}
    finally:
        services.close()


@contextmanager
def listening_to_interrupts() -> Iterator[None]:
    """Let child processes react to SIGINT until the context ends.

    A shell starts background processes with SIGINT ignored, and their child processes inherit this.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _as_in_a_new_process() -> Iterator[None]:
    levels = {name: logging.getLogger(name).level for name in LOGGERS}
    handlers = {name: logging.getLogger(name).handlers[:] for name in LOGGERS}
    definitions.services.cache_clear()
    try:
        with warnings.catch_warnings():
            yield
    finally:
        if definitions.services.cache_info().currsize:
            definitions.services().close()
        definitions.services.cache_clear()
        for locks in list(_all_run_locks):
            locks._held.clear()
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
            logging.getLogger(name).handlers[:] = handlers[name]
