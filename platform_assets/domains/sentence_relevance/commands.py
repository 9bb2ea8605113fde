"""The commands of sentence relevance: `sentences pack` and `sentences unpack`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer

from platform_assets.base.command_line import say

commands = typer.Typer()
sentences = typer.Typer(help="The archive of labelled sentences.", no_args_is_help=True)
commands.add_typer(sentences, name="sentences")


@sentences.command()
def unpack(
    context: typer.Context,
    archive: Annotated[str, typer.Argument(help="The compressed tar archive: a path, or any fsspec URI.")],
    target: Annotated[Path, typer.Argument(metavar="OUT", help="The SQLite file to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Unpack the SQLite database of an archive, and print the number of rows by label."""
    from platform_assets.domains.sentence_relevance import sources
    from platform_assets.landing.source_files import Source

    rows = sources.unpack(Source("ARCHIVE", archive), target, sources.unpacking(context.obj.settings), replace=force)
    _report(target, rows)


@sentences.command()
def pack(
    context: typer.Context,
    database: Annotated[str, typer.Argument(help="The SQLite file: a path, or any fsspec URI.")],
    archive: Annotated[Path, typer.Argument(help="The compressed tar archive to write.")],
    force: Annotated[bool, typer.Option("--force", help="Replace an existing file.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Pack a SQLite database into an archive, and print the number of rows by label."""
    from platform_assets.domains.sentence_relevance import sources
    from platform_assets.landing.source_files import Source

    rows = sources.pack(Source("DATABASE", database), archive, sources.unpacking(context.obj.settings), replace=force)
    _report(archive, rows)


def _report(written: Path, rows: Mapping[str, int]) -> None:
    say(str(written))
    for label, count in rows.items():
        say(f"{label}: {count:,} rows")
