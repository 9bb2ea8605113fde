"""Context and printing shared by the commands of all subpackages and domains.

Each `commands.py` defines `commands`, a Typer app without a name. `cli.py` adds its commands to the program.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import cached_property
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from platform_assets.base.printable_text import escaped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from platform_assets.settings import Settings

WIDTH = 500
"""Width in characters of output that goes to a file or pipe."""


class SafeConsole(Console):
    """A console that escapes control characters in texts, because they could hide or forge lines on a terminal.

    Names of models, tables and keys may contain such characters, because they come from other programs and databases.
    """

    def print(self, *objects: Any, **options: Any) -> None:
        """Print texts with escaped control characters, and other objects as they are."""
        super().print(*(escaped(one, lines=True) if isinstance(one, str) else one for one in objects), **options)


# Do not wrap lines: a terminal does that itself, and in files and pipes each row of a table should stay on one line.
out = SafeConsole(
    highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout and sys.stdout.isatty() else WIDTH
)
err = SafeConsole(stderr=True, highlight=False, emoji=False, soft_wrap=True)


@dataclass(frozen=True)
class Context:
    """Value of `typer.Context.obj`: the services and catalogues that commands use but may not import.

    Everything except the settings is opened on first use, because most commands need only some of it.

    Attributes
    ----------
    settings
        The platform's settings.
    open_services
        Function that opens the services for given settings.
    find_model
        Function that returns the declaration of a model by name. For an unknown name it raises a `PlatformError` that
        lists the known names.
    find_definitions
        Function that loads Dagster's code location.
    find_sources
        Function that returns the declared sources of all domains.
    """

    settings: Settings
    open_services: Callable[[Settings], Any]
    find_model: Callable[[str], Any]
    find_definitions: Callable[[], Any]
    find_sources: Callable[[], Iterable[Any]]
    _closing: list[Callable[[], None]] = field(default_factory=list, repr=False, compare=False)

    @cached_property
    def services(self) -> Any:
        """The services, opened on first use and closed when the command ends."""
        services = self.open_services(self.settings)
        self._closing.append(services.close)
        return services

    def close(self) -> None:
        """Close the services."""
        while self._closing:
            self._closing.pop()()


def open_closed_streams() -> None:
    """Open the null device as each standard stream that the caller closed (`>&-`).

    Otherwise the next file that is opened, for example the file of a table, would get the stream's descriptor, and
    subprocesses would write their output into it.
    """
    # Keep this order, because a new descriptor is always the lowest free one.
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            opened = os.open(os.devnull, os.O_RDWR)
            if opened != descriptor:
                os.dup2(opened, descriptor)
                os.close(opened)
            os.set_inheritable(descriptor, True)  # noqa: FBT003 - its only parameter
            setattr(sys, name, os.fdopen(descriptor, "w" if descriptor else "r", closefd=False))


def escape_what_cannot_be_shown() -> None:
    """Print characters that are missing in the output's encoding as escape sequences, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def say(line: str) -> None:
    """Print a line without interpreting markup."""
    out.print(line, markup=False)


def print_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table of texts without interpreting markup. Control characters are shown escaped."""
    table = Table()
    for heading in headings:
        # Wrap long names in a narrow terminal, because a truncated name cannot be recognised.
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Escape the cells, because names are user input and may contain markup.
        table.add_row(*(escape(escaped(cell, lines=True)) for cell in row))
    out.print(table)
