"""`reproduce`: train a version again and compare; `decide request`: evaluate a version again and ask for approval."""

from __future__ import annotations

from typing import Annotated

import typer

from platform_assets.approval.commands import actor_of, decide, told
from platform_assets.base.command_line import Context, say

commands = typer.Typer()


@commands.command()
def reproduce(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model, e.g. credit_risk_model.")],
    version: Annotated[int, typer.Argument(min=1, help="Its version in the registry.")],
) -> None:
    """Train a version again from the tables' versions that it names, and say whether it is the same; exit 1 if not."""
    from platform_assets.base.logs import quiet_libraries

    quiet_libraries()
    found = context.obj.services.trainer.reproduce(context.obj.find_model(model), version, say)
    for line in found.told():
        say(line)
    if not found.same:
        raise typer.Exit(1)


@decide.command("request")
def request_decision(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model, e.g. credit_risk_model.")],
    version: Annotated[int, typer.Argument(min=1, help="Its version in the registry.")],
) -> None:
    """Ask for a decision about a version: its artefact is judged again today, beside today's champion."""
    from platform_assets.approval.requests import request_approval
    from platform_assets.training.proposal import proposal_of
    from platform_assets.web.api_keys import KeysError

    platform: Context = context.obj
    spec, actor = platform.find_model(model), actor_of(platform)
    if platform.settings.identity_required and not actor.authenticated:
        raise KeysError(
            f"nobody knows that this is {actor.name}, and PLATFORM_APPROVALS_REQUIRE_IDENTITY is on: with four "
            "eyes who asks may not approve; set PLATFORM_API_KEY to your own key"
        )
    training = platform.services.trainer.judge(spec, version)
    request = request_approval(platform.services.ledger, proposal_of(spec, training, actor.name))
    if request is None:
        say(f"{model} version {version} is the champion; there is nothing to decide")
        return
    for line in told(request):
        say(line)
