"""`demo`: write the sample data of all sources."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from platform_assets.base.command_line import say

commands = typer.Typer()
demo = typer.Typer(help="Generated sample data.", no_args_is_help=True)
commands.add_typer(demo, name="demo")


@demo.callback()
def _group() -> None:
    # Without a callback, Typer omits the name of a group's only command.
    pass


@demo.command()
def generate(
    context: typer.Context,
    folder: Annotated[Path, typer.Argument(help="Folder for the files.")],
    rows: Annotated[int, typer.Option(min=1, help="Rows of each file.")] = 20_000,
) -> None:
    """Write the sample data that replace sources that are not set."""
    folder.mkdir(parents=True, exist_ok=True)
    for source in context.obj.find_sources():
        say(str(source.demo.write(folder / f"{source.name}{source.demo.suffix}", rows)))
