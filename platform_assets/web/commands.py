"""The commands `keys add`, `keys list` and `keys revoke`."""

from __future__ import annotations

from typing import Annotated

import typer

from platform_assets.base.command_line import print_table, say

commands = typer.Typer()
keys = typer.Typer(help="API keys, which identify people and programs.", no_args_is_help=True)
commands.add_typer(keys, name="keys")


@keys.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Name of the key.")],
    scope: Annotated[list[str], typer.Option("--scope", help="read, predict or approve; repeat it for several.")],
    owner: Annotated[str | None, typer.Option(help="Owner of the key; by default its name.")] = None,
) -> None:
    """Create a key and print its secret, which is not stored and cannot be shown again."""
    say(context.obj.services.keys.add(name, owner or name, scope))


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List all keys, including revoked ones, without their secrets."""
    found = context.obj.services.keys.list()
    moments = [[f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (key.created_at, key.revoked_at)] for key in found]
    print_table(
        ("key", "owner", "scopes", "made", "revoked"),
        (
            (key.name, key.owner, ", ".join(sorted(key.scopes)), *of_key)
            for key, of_key in zip(found, moments, strict=True)
        ),
    )


@keys.command()
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="Name of the key.")]) -> None:
    """Revoke a key. It stops working within one second."""
    context.obj.services.keys.revoke(name)
    say(f"the key {name} is revoked")
