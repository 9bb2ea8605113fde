"""Kill promotions and rollbacks at each call to the database or the registry, then run the next action.

`main` runs in its own process and forks once for each kill. For each kill it prints a line with the contradictions
between ledger, registry and audit. Its arguments are the database URL of the service role, the database URL of the
owner role, a folder, the action to kill, and the next action.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
from sqlalchemy import make_url

from platform_assets.approval.ledger import Ledger
from platform_assets.database.connections import Database
from platform_assets.models.registry import CHAMPION
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, PreparedLedger
from platform_assets_tests.contracts.file_registry import FileRegistry
from platform_assets_tests.contracts.registrations import small_model

if TYPE_CHECKING:
    from collections.abc import Iterator


class Fuse:
    """Counts calls, and kills this process at the call with the given number."""

    def __init__(self, calls: int) -> None:
        self.left = calls

    def burn(self) -> None:
        self.left -= 1
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class Shelf:
    """An artifact store without files, because real files would take most of the test's time."""

    def save(self, _: Any) -> str:
        return os.urandom(32).hex()

    def exists(self, _: str) -> bool:
        return True

    def load(self, _: str) -> Any:
        return small_model()


class DyingRegistry:
    """A registry whose calls are counted by the fuse."""

    def __init__(self, registry: FileRegistry, fuse: Fuse) -> None:
        self._registry = registry
        self._fuse = fuse

    def __getattr__(self, name: str) -> Any:
        called = getattr(self._registry, name)

        def call(*arguments: Any) -> Any:
            self._fuse.burn()
            return called(*arguments)

        return call


def dying_connection(url: str, fuse: Fuse) -> psycopg.Connection[Any]:
    """Return a connection whose statements and commits are counted by the fuse."""

    class Dying(psycopg.Connection[Any]):
        def execute(self, *arguments: Any, **options: Any) -> Any:
            fuse.burn()
            return super().execute(*arguments, **options)

        @contextlib.contextmanager
        def transaction(self, *arguments: Any, **options: Any) -> Iterator[psycopg.Transaction]:
            with super().transaction(*arguments, **options) as transaction:
                yield transaction
                fuse.burn()

    return Dying.connect(url)


def act(works: Works, action: str, model: str, number: int) -> None:
    if action == "promote":
        works.promoter.promote(number)
    else:
        works.promoter.rollback(model, ANNA, "it flags everybody", delivery="the run")


def dies(url: str, folder: Path, what: tuple[str, str, int], calls: int) -> bool:
    """Run the action in a forked process; return whether it was killed at the call with this number."""
    child = os.fork()
    if child == 0:
        fuse = Fuse(calls)
        with dying_connection(url, fuse) as connection:
            ledger = Ledger(lambda: contextlib.nullcontext(connection))
            registry: Any = DyingRegistry(FileRegistry(folder), fuse)
            act(Works(ledger, registry, folder, Database(make_url(url)).lock, Shelf()), *what)
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return True
    if os.waitstatus_to_exitcode(status):
        sys.exit(f"{what} failed at call {calls}")
    return False


def faults(works: Works, model: str, versions: tuple[int, ...]) -> list[str]:
    """Return contradictions between ledger, registry and audit. One of the given versions must be the champion."""
    champion, alias = works.ledger.champion(model), works.registry.by_alias(model, CHAMPION)
    found = works.promoter.drifted(model) + [str(finding) for finding in works.promoter.audit()]
    kinds = [event.kind for event in works.ledger.changes(model)]
    if champion is None or alias is None or champion.digest != alias.digest or champion.version not in versions:
        found.append(f"champion {champion}, alias {alias}")
    if kinds not in (["promote"], ["promote", "promote"], ["promote", "promote", "roll_back"]):
        found.append(f"{kinds}")
    if champion and len([kind for kind in kinds if kind == "promote"]) < champion.version:
        found.append("a champion that was never promoted")
    return found


def main(url: str, owner_url: str, path: str, action: str, next_run: str) -> None:
    with psycopg.connect(url) as connection, psycopg.connect(owner_url, autocommit=True) as owner:
        ledger = PreparedLedger(lambda: contextlib.nullcontext(connection), lambda: contextlib.nullcontext(owner))
        calls, killed = 0, True
        while killed:
            calls += 1
            model = f"{action}_{next_run}_{calls}"
            (folder := Path(path) / model).mkdir()
            works = Works(ledger, FileRegistry(folder), folder, Database(make_url(url)).lock, Shelf())
            works.crown("print-1", model)
            number = works.approve(works.train("print-2", model))
            if action == "rollback":
                works.promoter.promote(number)
            killed = dies(url, folder, (action, model, number), calls)
            wrong = []
            if killed and next_run == "reconcile":
                works.promoter.reconcile(model)
                wrong += faults(works, model, (1, 2))
            act(works, action, model, number)
            wrong += faults(works, model, (2,) if action == "promote" else (1,))
            sys.stdout.write(f"{calls} {'killed' if killed else 'completed'} {'; '.join(wrong) or 'consistent'}\n")
