"""Commands `keys` (create, list and revoke API keys) and `people` (manage people who sign in without a key)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from platform_assets.base.command_line import print_table, say
from platform_assets.base.printable_text import escaped

if TYPE_CHECKING:
    from platform_assets.web.key_ring import Key

commands = typer.Typer()
keys = typer.Typer(help="API keys of people and programs.", no_args_is_help=True)
commands.add_typer(keys, name="keys")

people = typer.Typer(help="People who sign in by OpenID Connect or through a proxy.", no_args_is_help=True)
commands.add_typer(people, name="people")

Identity = Annotated[
    str, typer.Argument(help="Name of the person at the OpenID Connect provider or proxy, e.g. an email address.")
]
Name = Annotated[str, typer.Argument(help="Name of the key.")]


@keys.command()
def add(
    context: typer.Context,
    name: Name,
    scope: Annotated[
        list[str],
        typer.Option(
            "--scope", help="`read`, `predict`, `label`, `trace`, `approve` or `identify`; repeat the option for more."
        ),
    ],
    owner: Annotated[
        str | None, typer.Option(help="Person or program that uses the key; default: the name of the key.")
    ] = None,
) -> None:
    """Create a key and print its secret, which cannot be shown again.

    A key with the scope `approve` needs PLATFORM_MIGRATION_DATABASE_URL, or an approver's key in PLATFORM_API_KEY. The
    embedded database needs neither.
    """
    approver_secret = context.obj.settings.api_key.get_secret_value()
    say(context.obj.services.keys.add(name, owner or name, scope, approver_secret))


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List all keys, including revoked keys, without their secrets."""
    _print_keys("key", [key for key in context.obj.services.keys.list() if not key.is_person])


@keys.command()
def revoke(context: typer.Context, name: Name) -> None:
    """Revoke a key and end its sessions."""
    context.obj.services.keys.revoke(name)
    say(f"the key {name} is revoked")


@people.command("add")
def add_person(
    context: typer.Context,
    identity: Identity,
    scope: Annotated[
        list[str],
        typer.Option("--scope", help="`read`, `predict`, `label`, `trace` or `approve`; repeat the option for more."),
    ],
    owner: Annotated[
        str | None, typer.Option(help="Name of the person in policies and in the ledger; default: the identity.")
    ] = None,
) -> None:
    """Enrol a person who signs in without a key, or replace the scopes of an enrolled person.

    The scope `approve` needs PLATFORM_MIGRATION_DATABASE_URL, or an approver's key in PLATFORM_API_KEY.
    """
    settings, services = context.obj.settings, context.obj.services
    services.keys_in_database().enrol(identity, owner or identity, scope, settings.api_key.get_secret_value())
    say(f"{escaped(identity)} can sign in; the name in the ledger is {escaped(owner or identity)}")


@people.command("list")
def list_people(context: typer.Context) -> None:
    """List the people who were enrolled or have signed in, including revoked people."""
    _print_keys("person", [key for key in context.obj.services.keys.list() if key.is_person])


@people.command("revoke")
def revoke_person(context: typer.Context, identity: Identity) -> None:
    """Revoke a person's access and end the person's sessions."""
    context.obj.services.keys.revoke(identity)
    say(f"the access of {escaped(identity)} is revoked")


def _print_keys(called: str, found: list[Key]) -> None:
    moments = [[f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (key.created_at, key.revoked_at)] for key in found]
    print_table(
        (called, "owner", "scopes", "created", "revoked"),
        (
            (escaped(key.name), escaped(key.owner), ", ".join(sorted(key.scopes)), *of_key)
            for key, of_key in zip(found, moments, strict=True)
        ),
    )
