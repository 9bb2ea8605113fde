"""The commands `export` and `shadow`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from platform_assets.base.command_line import print_table, say
from platform_assets.base.errors import PlatformError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.approval.shadows import Shadow

commands = typer.Typer()


@commands.command()
def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    folder: Annotated[Path, typer.Argument(help="New or empty folder, or one with an older export.")],
) -> None:
    """Export the champion and the record of its approval as a bundle, which `serve` can serve without a database."""
    from platform_assets.serving.bundles import export as write_bundle

    services, spec = context.obj.services, context.obj.find_model(model)
    bundle = write_bundle(services.ledger, services.artefacts, spec.name, folder)
    demo = ", trained on sample data" if bundle.demo else ""
    say(f"{model} version {bundle.version}{demo}, digest {bundle.digest}")
    for line in bundle.approved:
        say(f"request {bundle.approval_id}, {line}")
    say(f"serve it with PLATFORM_BUNDLE={folder} platform-assets serve")


@commands.command()
def shadow(
    context: typer.Context,
    model: Annotated[str | None, typer.Argument(help="Name of a registered model; without one, list shadows.")] = None,
    version: Annotated[int | None, typer.Argument(min=1, help="A version that awaits a decision.")] = None,
    days: Annotated[int, typer.Option(min=1, max=31, help="Longest duration in days.")] = 3,
    stop: Annotated[bool, typer.Option("--stop", help="Stop the running shadow of the model.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Start a shadow: a version that also scores the champion's requests. Without arguments, list the shadows."""
    services = context.obj.services
    if model is not None:
        context.obj.find_model(model)
    if model is None:
        _list_shadows(services.shadow_ledger.shadows())
    elif stop:
        _stop_shadow(context, model, version)
    elif version is None:
        raise PlatformError(f"give the version of {model} to run as a shadow, or --stop to stop the running shadow")
    else:
        from platform_assets.approval.commands import actor_of

        started = services.shadow_ledger.start(model, version, days, actor_of(context.obj))
        say(
            f"{model} version {version} scores the champion's requests until {started.until:%Y-%m-%d %H:%M} UTC at the "
            "latest; a running service starts scoring within seconds"
        )
        say(f"request {started.request_id} shows the reports: `platform-assets decide show {started.request_id}`")


def _list_shadows(found: Sequence[Shadow]) -> None:
    if not found:
        say("there are no shadows")
        return
    print_table(
        ("request", "model", "version", "started by", "since", "until", "state"),
        (
            (
                str(one.request_id),
                one.model,
                str(one.version),
                one.by,
                f"{one.since:%Y-%m-%d %H:%M}",
                f"{one.until:%Y-%m-%d %H:%M}",
                f"ended: {one.ended}" if one.ended else "running",
            )
            for one in found
        ),
    )


def _stop_shadow(context: typer.Context, model: str, version: int | None) -> None:
    from platform_assets.approval.commands import actor_of
    from platform_assets.approval.shadows import newest_report
    from platform_assets.serving.shadow_store import record_report

    services = context.obj.services
    running = services.shadow_ledger.running(model)
    if version not in (None, running.version):
        raise PlatformError(f"the running shadow of {model} is version {running.version}, not {version}")
    actor = actor_of(context.obj)
    last = newest_report(services.ledger.history(running.request_id))
    with services.database.pooled() as connection:
        record_report(connection, services.shadow_ledger, running, last)
    services.shadow_ledger.stop(running.request_id, actor)
    say(f"{running.called} was stopped; `platform-assets decide show {running.request_id}` shows its last report")
