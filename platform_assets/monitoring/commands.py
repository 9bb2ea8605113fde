"""`alerts`: list, silence and close incidents. `trace`: follow an answer back to its raw data."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from platform_assets.base.command_line import Context, print_table, say
from platform_assets.base.errors import PlatformError
from platform_assets.base.printable_text import escaped

if TYPE_CHECKING:
    from platform_assets.monitoring.incidents.incident import Incident

commands = typer.Typer()
alerts = typer.Typer(help="List, silence and close incidents.", no_args_is_help=True)
commands.add_typer(alerts, name="alerts")

Number = Annotated[int, typer.Argument(min=1, metavar="INCIDENT", help="Number of the incident.")]
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_LONGEST = timedelta(days=365)


@alerts.command("list")
def list_incidents(
    context: typer.Context,
    everything: Annotated[bool, typer.Option("--all", help="Include closed incidents.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """List open incidents, newest first."""
    incidents, console = context.obj.services.incidents, context.obj.services.console
    found, unsent = incidents.list(everything=everything), incidents.unsent()
    if not found:
        say("there are no incidents" if everything else "no incident is open")
        return

    def state(one: Incident) -> str:
        return "closed" if one.closed_at else "silenced" if one.silence else "open"

    def what(one: Incident) -> str:
        silence = f"({one.silence})" if one.silence else ""
        return escaped(" ".join(filter(None, [f"{one.kind}: {one.title}", one.link_from(console), silence])))

    print_table(
        ("incident", "state", "severity", "since", "seen", "what", "not sent"),
        (
            (
                str(one.id),
                state(one),
                one.severity,
                f"{one.opened_at:%Y-%m-%d %H:%M}",
                str(one.seen),
                what(one),
                str(unsent.get(one.id, "")),
            )
            for one in found
        ),
    )


@alerts.command()
def silence(
    context: typer.Context,
    number: Number,
    reason: Annotated[str, typer.Option("--reason", help="Reason, shown to other users.")],
    time: Annotated[str, typer.Option("--for", help="Duration, for example 30m, 8h or 7d.")] = "8h",
) -> None:
    """Send no messages about an incident for some time, even if the same problem returns."""
    until = datetime.now(UTC) + _duration(time)
    incident = context.obj.services.incidents.silence(number, until, person(context.obj), reason)
    say(f"incident {incident.id} is silenced until {until:%Y-%m-%d %H:%M} UTC")


@alerts.command()
def close(context: typer.Context, number: Number) -> None:
    """Close an incident. It is opened again if the same problem returns."""
    services = context.obj.services
    incident = services.incidents.close(number, person(context.obj))
    by = f" by {incident.closed_by}" if incident.closed_by else ", because the problem had ended"
    say(f"incident {incident.id} was closed at {incident.closed_at:%Y-%m-%d %H:%M} UTC{by}")


@commands.command()
def trace(
    context: typer.Context,
    request_id: Annotated[
        str,
        typer.Argument(help="X-Request-ID of a response, or id of a stored answer, e.g. FILE_DIGEST:LINE."),
    ],
    answer: Annotated[
        int | None,
        typer.Option(min=1, help="Number of the answer to trace, from 1. Default: the first ten answers."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Show the origin of an answer: features, tables, files and lines, model, approval and training."""
    from platform_assets.base.logs import quiet_libraries
    from platform_assets.monitoring.trace.page import written

    quiet_libraries()
    found = context.obj.services.tracer.trace(request_id, answer)
    if as_json:
        from platform_assets.monitoring.trace.results import trace_as_json

        say(trace_as_json(found, indent=2).decode())
        return
    for line in written(found):
        say(line)


def person(context: Context) -> str:
    """Return the owner of the key in PLATFORM_API_KEY, or the login name, which is not verified."""
    from platform_assets.approval.commands import actor_of

    return actor_of(context).name


def _duration(text: str) -> timedelta:
    found = re.fullmatch(r"(\d{1,6})([mhd])", text)
    time = timedelta(**{_UNITS[found[2]]: int(found[1])}) if found else timedelta(0)
    if not timedelta(0) < time <= _LONGEST:
        raise PlatformError(f"--for is {text!r}; give minutes, hours or days, at most 365d, for example 30m, 8h or 7d")
    return time
