"""`keys`: create, list and revoke the keys of people and programs."""

from __future__ import annotations

from typing import Annotated

import typer

from platform_assets.base.command_line import print_table, say
from platform_assets.base.printable_text import escaped

commands = typer.Typer()
keys = typer.Typer(help="API keys of people and programs.", no_args_is_help=True)
commands.add_typer(keys, name="keys")

Name = Annotated[str, typer.Argument(help="Name of the key.")]


@keys.command()
def add(
    context: typer.Context,
    name: Name,
    scope: Annotated[list[str], typer.Option("--scope", help="read, predict, label, trace or approve; repeat.")],
    owner: Annotated[
        str | None, typer.Option(help="Person or program that uses the key; default: the name of the key.")
    ] = None,
) -> None:
    """Create a key and print its secret, which cannot be shown again.

    A key with the scope approve needs PLATFORM_MIGRATION_DATABASE_URL, or an approver's key in PLATFORM_API_KEY. The
    embedded database needs neither.
    """
    approver_secret = context.obj.settings.api_key.get_secret_value()
    say(context.obj.services.keys.add(name, owner or name, scope, approver_secret))


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List all keys, including revoked ones, without their secrets."""
    found = context.obj.services.keys.list()
    moments = [[f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (key.created_at, key.revoked_at)] for key in found]
    print_table(
        ("key", "owner", "scopes", "created", "revoked"),
        (
            (escaped(key.name), escaped(key.owner), ", ".join(sorted(key.scopes)), *of_key)
            for key, of_key in zip(found, moments, strict=True)
        ),
    )


@keys.command()
def revoke(context: typer.Context, name: Name) -> None:
    """Revoke a key and end its sessions."""
    context.obj.services.keys.revoke(name)
    say(f"the key {name} is revoked")
