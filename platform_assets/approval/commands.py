"""`decide`, `rollback`, `audit`: decisions about models on the command line."""

from __future__ import annotations

import getpass
import json
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from platform_assets.base.command_line import Context, out, print_table, say
from platform_assets.base.printable_text import escaped

if TYPE_CHECKING:
    from platform_assets.approval.ledger import Ledger
    from platform_assets.approval.promotion import Promoter
    from platform_assets.approval.refusals import Verb
    from platform_assets.approval.requests import Actor, Request

DIGITS = 4
"""Significant digits of printed metrics."""
CLOSED = 3
"""Exit code if the request is already closed."""

commands = typer.Typer()
decide = typer.Typer(help="Review and decide requests for approval.", no_args_is_help=True)
commands.add_typer(decide, name="decide")

Number = Annotated[int, typer.Argument(min=1, metavar="REQUEST", help="Number of the request.")]
Reason = Annotated[str, typer.Option("--reason", help="Reason, recorded permanently.")]


@decide.command("list")
def list_requests(
    context: typer.Context,
    model: Annotated[str | None, typer.Option(help="Only this model.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Include closed requests.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """List open requests."""
    from platform_assets.approval.requests import OPEN

    ledger: Ledger = context.obj.services.ledger
    if model is not None:
        _demand_known(context.obj, model)
    ledger.expire()
    found = ledger.requests(model, None if everything else OPEN)
    if not found:
        out.print("there are no open requests" if not everything else "there are no requests")
        return
    print_table(
        ("request", "model", "version", "state", "gate", "launched by", "created", "expires"),
        (
            (
                str(request.id),
                request.model,
                str(request.version),
                request.state,
                "passed" if request.passed else "FAILED",
                escaped(request.launched_by or "unknown"),
                f"{request.created_at:%Y-%m-%d %H:%M}",
                f"{request.expires_at:%Y-%m-%d %H:%M}",
            )
            for request in found
        ),
    )


@decide.command()
def show(context: typer.Context, request: Number) -> None:
    """Show a request: gate result, metrics of challenger and champion, data, code and history."""
    from platform_assets.approval.evidence import UNREADABLE
    from platform_assets.approval.shadow_section import shadow_section, told_shadow

    ledger: Ledger = context.obj.services.ledger
    found, history = ledger.request(request), ledger.history(request)
    try:
        lines = [*told(found)]
    except UNREADABLE:
        lines = [f"{found.called}: {found.state}; the evidence cannot be read; reject or withdraw the request"]
    for line in lines:
        say(line)
    section = shadow_section(context.obj.services.shadow_ledger.shadow(request), found, history)
    for line in told_shadow(section) if section else ():
        say(line)
    for event in history:
        say(f"  {event.told}")


@decide.command()
def approve(
    context: typer.Context,
    request: Number,
    reason: Reason,
    override: Annotated[bool, typer.Option("--override", help="Approve despite a failed gate.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Approve a request. The sensor or the job promote_model then promotes the version."""
    _decide(context, request, "approve", reason, override=override)


@decide.command()
def reject(context: typer.Context, request: Number, reason: Reason) -> None:
    """Reject a request. The champion stays."""
    _decide(context, request, "reject", reason)


@decide.command()
def withdraw(context: typer.Context, request: Number, reason: Reason) -> None:
    """Withdraw a request without approving or rejecting the model."""
    _decide(context, request, "withdraw", reason)


@commands.command()
def rollback(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    reason: Reason,
) -> None:
    """Restore the previous champion of a model, and record this with the reason."""
    _demand_known(context.obj, model)
    champion = context.obj.services.promoter.rollback(model, actor_of(context.obj), reason)
    say(f"{model} version {champion.version} is the champion again")


@commands.command()
def audit(context: typer.Context) -> None:
    """Check that decisions, keys and policies are unaltered and that MLflow matches the ledger; exit 1 if not."""
    promoter: Promoter = context.obj.services.promoter
    found = promoter.audit_everything()
    for line in (line for model in promoter.models() for line in promoter.erased(model)):
        say(line)
    head = context.obj.services.ledger.head()
    for line in found:
        say(line)
    if found:
        raise typer.Exit(1)
    say(f"nothing was altered; newest event: {head or 'none'}")


def _demand_known(context: Context, model: str) -> None:
    """Raise PlatformError if no domain declares the model and the ledger has no request for it."""
    # Models whose domain was removed are known only to the ledger.
    if model not in context.services.ledger.models():
        context.find_model(model)


def _decide(context: typer.Context, number: int, decision: Verb, reason: str, *, override: bool = False) -> None:
    from platform_assets.approval.ledger_errors import AlreadyDecided
    from platform_assets.approval.requests import State
    from platform_assets.approval.shadows import newest_report

    ledger: Ledger = context.obj.services.ledger
    # Record the newest shadow report as seen, because `decide show` prints it.
    report = newest_report(ledger.history(number))
    seen = report.sequence if report else None
    try:
        request = ledger.decide(number, decision, actor_of(context.obj), reason, override=override, seen=seen)
    except AlreadyDecided as error:
        say(str(error))
        raise typer.Exit(CLOSED) from None
    say(f"{request.called} is {request.state}")
    if request.state == State.APPROVED:
        say(_how_it_is_promoted(number))


def _how_it_is_promoted(number: int) -> str:
    config = json.dumps({"ops": {"load_request": {"config": {"request": number}}}})
    return (
        "under `make up`, it is promoted automatically within a minute; otherwise, launch the job:\n"
        f".venv/bin/dg launch --job promote_model --config-json '{config}'"
    )


def user_name() -> str:
    """Return the login name of the current user, or `user <id>` if /etc/passwd has no entry."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # OSError since Python 3.13
        return f"user {os.getuid()}"


def actor_of(context: Context) -> Actor:
    """Return the owner of the key in PLATFORM_API_KEY; without a key, the unverified login name."""
    from platform_assets.approval.requests import Actor
    from platform_assets.web.key_errors import KeysError

    secret = context.settings.api_key.get_secret_value()
    if not secret:
        return Actor(f"{user_name()} on the command line")
    key = context.services.keys.check(secret)
    if key is None:
        raise KeysError("PLATFORM_API_KEY is unknown or revoked; `platform-assets keys list` shows the keys")
    return Actor(key.owner, secret)


def requester(context: Context) -> Actor:
    """Return the person who requests an approval; see `actor_of`.

    Raises
    ------
    KeysError
        There is no key, but PLATFORM_APPROVALS_REQUIRE_IDENTITY is on.
    """
    from platform_assets.web.key_errors import KeysError

    actor = actor_of(context)
    if context.settings.identity_required and not actor.secret:
        raise KeysError(
            f"{actor.name} is not authenticated, and PLATFORM_APPROVALS_REQUIRE_IDENTITY is on: requesters may "
            "not approve their own requests, so their identity must be verified; set PLATFORM_API_KEY to your own key"
        )
    return actor


def told(request: Request) -> Iterator[str]:
    """Yield the description of a request, line by line."""
    from platform_assets.evaluation.estimate_text import told_estimate
    from platform_assets.evaluation.metric_catalogue import ordered

    evidence: Any = request.evidence
    champion = f"version {request.champion[0]}" if request.champion else "none"
    yield f"{request.called}: {request.state}; expires {request.expires_at:%Y-%m-%d %H:%M} UTC"
    yield f"launched by {escaped(request.launched_by or 'unknown')}; champion at the time: {champion}"
    tables = (f"{table} version {number}" for table, number in (evidence.get("tables") or {}).items())
    yield f"code {evidence.get('git_commit')}; data {', '.join(tables) or 'from another environment (see model card)'}"
    yield "gate: " + ("passed" if request.passed else "FAILED")
    yield from (f"  {'+' if one['passed'] else '-'} {one['told']}" for one in evidence["verdict"]["reasons"])
    difference = evidence.get("difference") or {}
    metrics = evidence["metrics"]
    for name in ordered(metrics):
        beside = f"; difference from champion {told_estimate(difference[name], DIGITS)}" if name in difference else ""
        yield f"  {name}: {told_estimate(metrics[name], DIGITS)}{beside}"
