"""The command `export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from platform_assets.base.command_line import say

commands = typer.Typer()


@commands.command()
def export(
    context: typer.Context,
    model: Annotated[str, typer.Argument(help="Name of a registered model.")],
    folder: Annotated[Path, typer.Argument(help="Folder that is new, empty, or holds an older export.")],
) -> None:
    """Export the champion and the record of its approval as a bundle, which `serve` can serve without a database."""
    from platform_assets.serving.bundles import export as write_bundle

    services = context.obj.services
    bundle = write_bundle(services.ledger, services.artefacts, model, folder)
    demo = ", trained on sample data" if bundle.demo else ""
    say(f"{model} version {bundle.version}{demo}, digest {bundle.digest}")
    for line in bundle.approved:
        say(f"request {bundle.approval_id}, {line}")
    say(f"serve it with PLATFORM_BUNDLE={folder} platform-assets serve")
