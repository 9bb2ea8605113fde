"""The commands of stocks: `stocks newest`."""

from __future__ import annotations

import asyncio
from typing import Annotated

import typer

from platform_assets.base.command_line import print_table

commands = typer.Typer()
stocks = typer.Typer(help="Prices of shares, and their features.", no_args_is_help=True)
commands.add_typer(stocks, name="stocks")


@stocks.callback()
def _group() -> None:
    # Without a callback, Typer omits the name of a group's only command.
    pass


@stocks.command()
def newest(context: typer.Context, symbol: Annotated[str, typer.Argument(help="Symbol of the share.")]) -> None:
    """Print the features of a share's newest trading day."""
    from platform_assets.base.errors import NotFound
    from platform_assets.domains.stocks.schemas import NEWEST_FEATURES

    row = asyncio.run(context.obj.services.online.get(NEWEST_FEATURES.name, symbol=symbol))
    if row is None:
        raise NotFound(f"Unknown share {symbol}: the source has no prices for it.")
    print_table(("feature", "value"), ((name, str(value)) for name, value in row.items()))
