"""`demo`: write the sample data that stand in for sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from platform_assets.base.command_line import say

commands = typer.Typer()
demo = typer.Typer(help="Invented sample data.", no_args_is_help=True)
commands.add_typer(demo, name="demo")


@demo.callback()
def _group() -> None:
    # With one command alone, Typer would take its name away.
    pass


@demo.command()
def generate(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Where the files go.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of each file.")] = 20_000,
) -> None:
    """Write the sample data that serves where no source is set."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in context.obj.find_sources():
        say(str(source.demo.write(folder / f"{source.name}{source.demo.suffix}", rows)))
