"""`keys`: make, list and revoke the keys of people and programs."""

from __future__ import annotations

from typing import Annotated

import typer

from platform_assets.base.command_line import print_table, say

commands = typer.Typer()
keys = typer.Typer(help="Keys by which people and programs say who they are.", no_args_is_help=True)
commands.add_typer(keys, name="keys")


@keys.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is called.")],
    scope: Annotated[list[str], typer.Option("--scope", help="read, predict or approve; several times for several.")],
    owner: Annotated[str | None, typer.Option(help="Who holds it; by default as it is called.")] = None,
) -> None:
    """Make a key and print its secret, which is not kept and cannot be shown again."""
    say(context.obj.services.keys.add(name, owner or name, scope))


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List all keys, revoked ones among them; no secrets."""
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
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="What the key is called.")]) -> None:
    """Revoke a key; from now on it opens nothing."""
    context.obj.services.keys.revoke(name)
    say(f"the key {name} is revoked")
