"""The commands by which people decide about models: `decide`, `rollback`, `audit`, `keys`. Thin, as `cli.py` is."""

from __future__ import annotations

import getpass
import json
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from platform_assets.approval.ledger import Actor, Request, Verb
    from platform_assets.services import Services
    from platform_assets.settings import Settings

DIGITS = 4
CLOSED = 3
"""Exit code when somebody has decided before."""
WIDTH = 500
"""Characters of a line that no terminal shows."""

decide = typer.Typer(help="Decide about models.", no_args_is_help=True)
keys = typer.Typer(help="Keys by which people and programs say who they are.", no_args_is_help=True)
# Lines are never broken; the terminal does that. Without one, tables get the room that they need.
out = Console(highlight=False, emoji=False, soft_wrap=True, width=None if sys.stdout.isatty() else WIDTH)

Number = Annotated[int, typer.Argument(min=1, metavar="REQUEST", help="Number of the request.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; recorded for ever.")]


@decide.command("list")
def list_requests(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Of this model only.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Closed requests as well.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """List the requests that wait for somebody."""
    from platform_assets.approval.ledger import OPEN

    with _opened(context) as services:
        services.ledger.expire()
        found = services.ledger.requests(model, None if everything else OPEN)
    if not found:
        out.print("no request is open" if not everything else "there are no requests")
        return
    _print_table(
        ("request", "model", "version", "state", "gate", "launched by", "asked", "expires"),
        (
            (
                str(request.id),
                request.model,
                str(request.version),
                request.state,
                "passed" if request.passed else "FAILED",
                request.launched_by or "unknown",
                f"{request.created_at:%Y-%m-%d %H:%M}",
                f"{request.expires_at:%Y-%m-%d %H:%M}",
            )
            for request in found
        ),
    )


@decide.command()
def show(context: typer.Context, request: Number) -> None:
    """Show what is known of a request: gate, metrics beside the champion's, data, code, history."""
    with _opened(context) as services:
        found, history = services.ledger.request(request), services.ledger.history(request)
    for line in _told(found):
        out.print(line, markup=False)
    for event in history:
        out.print(f"  {event.told}", markup=False)


@decide.command()
def approve(
    context: typer.Context,
    request: Number,
    reason: Reason,
    override: Annotated[bool, typer.Option("--override", help="Although it failed its gate; marked for ever.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Approve a request; the sensor, or the job promote_model, then promotes it."""
    _decide(context, request, "approve", reason, override=override)


@decide.command()
def reject(context: typer.Context, request: Number, reason: Reason) -> None:
    """Reject a request; the champion stays."""
    _decide(context, request, "reject", reason)


@decide.command()
def withdraw(context: typer.Context, request: Number, reason: Reason) -> None:
    """Take a request back, without judging the model."""
    _decide(context, request, "withdraw", reason)


@decide.command("request")
def ask(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model, e.g. credit_risk_model.")],
    version: Annotated[int, typer.Argument(min=1, help="Its version in the registry.")],
) -> None:
    """Ask for a decision about a version: its artefact is judged again today, beside today's champion."""
    from platform_assets.approval.promotion import request_approval
    from platform_assets.domains import model_spec
    from platform_assets.web.api_keys import KeysError

    spec = model_spec(model)
    with _opened(context) as services:
        actor = _actor(services, context.obj)
        if context.obj.identity_required and not actor.authenticated:
            raise KeysError(
                f"nobody knows that this is {actor.name}, and PLATFORM_APPROVALS_REQUIRE_IDENTITY is on: with four "
                "eyes who asks may not approve; set PLATFORM_API_KEY to your own key"
            )
        training = services.trainer.judge(spec, version)
        request = request_approval(services.ledger, spec, training, actor.name)
    if request is None:
        out.print(f"{model} version {version} is the champion; there is nothing to decide", markup=False)
        return
    for line in _told(request):
        out.print(line, markup=False)


def rollback(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    reason: Reason,
) -> None:
    """Bring a model's previous champion back; recorded like any decision."""
    with _opened(context) as services:
        champion = services.promoter.rollback(model, _actor(services, context.obj), reason)
    out.print(f"{model} version {champion.version} is the champion again", markup=False)


def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    folder: Annotated[Path, typer.Argument(help="New, empty, or with an older export.")],
) -> None:
    """Write the champion and the record of its approval into a folder that a service can serve from by itself."""
    from platform_assets.serving.bundles import export as write_bundle

    with _opened(context) as services:
        bundle = write_bundle(services.ledger, services.artefacts, model, folder)
    demo = ", trained on sample data" if bundle.demo else ""
    out.print(f"{model} version {bundle.version}{demo}, digest {bundle.digest}", markup=False)
    for line in bundle.approved:
        out.print(f"request {bundle.approval_id}, {line}", markup=False)
    out.print(f"serve it with PLATFORM_BUNDLE={folder} platform-assets serve", markup=False)


def audit(context: typer.Context) -> None:
    """Look for what somebody altered: in the record of decisions, and in what MLflow shows of it; exit 1 if any."""
    with _opened(context) as services:
        promoter = services.promoter
        found = [f"{finding.row}: {finding.told}" for finding in promoter.audit()]
        found += [drift for model in promoter.models() for drift in promoter.drifted(model)]
        head = services.ledger.head()
    for line in found:
        out.print(line, markup=False)
    if found:
        raise typer.Exit(1)
    out.print(f"nothing was altered; the newest event is {head or 'none yet'}", markup=False)


@keys.command()
def add(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="What the key is called.")],
    scope: Annotated[list[str], typer.Option("--scope", help="read, predict or approve; several times for several.")],
    owner: Annotated[str | None, typer.Option(help="Who holds it; by default as it is called.")] = None,
) -> None:
    """Make a key and print its secret, which is not kept and cannot be shown again."""
    with _opened(context) as services:
        secret = services.keys.add(name, owner or name, scope)
    out.print(secret, markup=False)


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List all keys, revoked ones among them; no secrets."""
    with _opened(context) as services:
        found = services.keys.list()
    moments = [[f"{at:%Y-%m-%d %H:%M}" if at else "" for at in (key.created_at, key.revoked_at)] for key in found]
    _print_table(
        ("key", "owner", "scopes", "made", "revoked"),
        (
            (key.name, key.owner, ", ".join(sorted(key.scopes)), *of_key)
            for key, of_key in zip(found, moments, strict=True)
        ),
    )


@keys.command()
def revoke(context: typer.Context, name: Annotated[str, typer.Argument(help="What the key is called.")]) -> None:
    """Revoke a key; from now on it opens nothing."""
    with _opened(context) as services:
        services.keys.revoke(name)
    out.print(f"the key {name} is revoked", markup=False)


def _decide(context: typer.Context, number: int, decision: Verb, reason: str, *, override: bool = False) -> None:
    from platform_assets.approval.ledger import AlreadyDecided, State

    with _opened(context) as services:
        try:
            request = services.ledger.decide(number, decision, _actor(services, context.obj), reason, override=override)
        except AlreadyDecided as error:
            out.print(str(error), markup=False)
            raise typer.Exit(CLOSED) from None
    out.print(f"{request.called} is {request.state}", markup=False)
    if request.state == State.APPROVED:
        out.print(_how_it_is_promoted(number), markup=False)


def _how_it_is_promoted(number: int) -> str:
    config = json.dumps({"ops": {"load_request": {"config": {"request": number}}}})
    return (
        "where automation is on, as with `make up`, it is the champion within a minute; without, once the job ran:\n"
        f".venv/bin/dg launch --job promote_model --config-json '{config}'"
    )


def _actor(services: Services, settings: Settings) -> Actor:
    """Whoever holds the key in PLATFORM_API_KEY; without one, who is signed in here, which proves nothing."""
    from platform_assets.approval.ledger import Actor
    from platform_assets.web.api_keys import KeysError

    secret = settings.api_key.get_secret_value()
    if not secret:
        return Actor(f"{getpass.getuser()} on the command line")
    key = services.keys.check(secret)
    if key is None:
        raise KeysError(
            "PLATFORM_API_KEY is no key of this platform, or was revoked; `platform-assets keys list` shows them"
        )
    return Actor(key.owner, authenticated=True, scopes=key.scopes)


def _print_table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> None:
    table = Table()
    for heading in headings:
        # In a narrow terminal names go on in the next line; cut off, nobody would know who it was.
        table.add_column(heading, overflow="fold")
    for row in rows:
        # Names are people's own words, and no markup.
        table.add_row(*map(escape, row))
    out.print(table)


def _told(request: Request) -> Iterator[str]:
    from platform_assets.training.model_card import told_estimate

    evidence: Any = request.evidence
    champion = f"version {request.champion[0]}" if request.champion else "none"
    yield f"{request.called}: {request.state}; expires {request.expires_at:%Y-%m-%d %H:%M} UTC"
    yield f"launched by {request.launched_by or 'nobody knows whom'}; champion then: {champion}"
    yield f"code {evidence.get('git_commit')}; data " + ", ".join(
        f"{table} version {number}" for table, number in (evidence.get("tables") or {}).items()
    )
    yield "gate: " + ("passed" if request.passed else "FAILED")
    yield from (f"  {'+' if one['passed'] else '-'} {one['told']}" for one in evidence["verdict"]["reasons"])
    difference = evidence.get("difference") or {}
    for name, one in evidence["metrics"].items():
        beside = f"; minus champion {told_estimate(difference[name], DIGITS)}" if name in difference else ""
        yield f"  {name}: {told_estimate(one, DIGITS)}{beside}"


@contextmanager
def _opened(context: typer.Context) -> Iterator[Services]:
    from platform_assets.services import open_services

    services = open_services(context.obj)
    try:
        yield services
    finally:
        services.close()
