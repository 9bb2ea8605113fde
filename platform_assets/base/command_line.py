"""What the commands of all rooms and domains share: their context, and how they print.

A `commands.py` has `commands`, a Typer app without a name; `cli.py` adds its commands and groups to the program.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from functools import cached_property
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from platform_assets.settings import Settings

WIDTH = 500
"""Width of the output where it is no terminal, in characters."""

# Lines are never broken; the terminal does that. Without one, tables get the room that they need.
out = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)
err = Console(stderr=True, highlight=False, emoji=False, soft_wrap=True)


@dataclass(frozen=True)
class Context:
    """What `typer.Context.obj` is: how commands reach what stands above their room.

    Everything but the settings opens when it is first asked for, because most commands need little of it.

    Attributes
    ----------
    settings
        The platform's.
    open_services
        Opens the services for settings.
    find_model
        Finds the declaration of a model by the model's name; a `PlatformError` names those that there are.
    find_definitions
        Loads Dagster's code location.
    find_sources
        Finds every source that a domain declares.
    """

    settings: Settings
    open_services: Callable[[Settings], Any]
    find_model: Callable[[str], Any]
    find_definitions: Callable[[], Any]
    find_sources: Callable[[], Iterable[Any]]
    _closing: list[Callable[[], None]] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def services(self) -> Any:
        """The services, closed when the command ends."""
        services = self.open_services(self.settings)
        self._closing.append(services.close)
        return services

    def close(self) -> None:
        """Close what was opened."""
        while self._closing:
            self._closing.pop()()


def escape_what_cannot_be_shown() -> None:
    """Print characters that the output's encoding lacks as escape sequences, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a line as it is, without markup."""
    out.print(line, markup=False)


def print_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table of texts as they are."""
    table = Table()
    for heading in headings:
        # In a narrow terminal names go on in the next line; cut off, nobody would know who it was.
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Names are people's own words, and no markup.
        table.add_row(*map(escape, row))
    out.print(table)
