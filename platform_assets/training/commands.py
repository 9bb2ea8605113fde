"""Commands `reproduce` (retrain a version and compare) and `decide request` (open a new approval request)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from platform_assets.approval.commands import actor_of, decide, told
from platform_assets.base.command_line import Context, say

commands = typer.Typer()


@commands.command()
def reproduce(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the registered model, e.g. credit_risk_model.")],
    version: Annotated[int, typer.Argument(min=1, help="Version number in the registry.")],
) -> None:
    """Retrain a version from its recorded table versions and check that the result is identical; exit 1 if not.

    The result is recorded as a tag of the version.
    """
    from platform_assets.base.logs import quiet_libraries
    from platform_assets.training.training_results import REPRODUCED_TAG

    quiet_libraries()
    found = context.obj.services.trainer.reproduce(context.obj.find_model(model), version, say)
    for line in found.told():
        say(line)
    tags = {REPRODUCED_TAG: f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC" if found.same else ""}
    context.obj.services.registry.set_tags(model, version, tags)
    if not found.same:
        raise typer.Exit(1)


@decide.command("request")
def request_decision(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of the registered model, e.g. credit_risk_model.")],
    version: Annotated[int, typer.Argument(min=1, help="Version number in the registry.")],
) -> None:
    """Open a new approval request for a version, re-evaluated on current data against the current champion."""
    from platform_assets.approval.requests import request_approval
    from platform_assets.training.proposal import proposal_of
    from platform_assets.web.key_errors import KeysError

    platform: Context = context.obj
    spec, actor = platform.find_model(model), actor_of(platform)
    if platform.settings.identity_required and not actor.secret:
        raise KeysError(
            f"{actor.name} is not authenticated, and PLATFORM_APPROVALS_REQUIRE_IDENTITY is on: the requester must "
            "be known, because they may not approve their own request; set PLATFORM_API_KEY to your own key"
        )
    training = platform.services.trainer.judge(spec, version)
    request = request_approval(platform.services.ledger, proposal_of(spec, training, actor))
    if request is None:
        say(f"{model} version {version} is already the champion; no request was opened")
        return
    for line in told(request):
        say(line)
