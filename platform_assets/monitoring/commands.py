"""`trace`: from an answer to the raw bytes behind it."""

from __future__ import annotations

from typing import Annotated

import typer

from platform_assets.base.command_line import say

commands = typer.Typer()


@commands.command()
def trace(
    context: typer.Context,
    request_id: Annotated[
        str,
        typer.Argument(help="X-Request-ID of a response, or id of a stored answer, e.g. FILE_DIGEST:LINE."),
    ],
    answer: Annotated[
        int | None, typer.Option(min=1, help="One answer of the request, from 1; by default the first ten.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,  # noqa: FBT002 - how Typer declares a flag
) -> None:
    """Show what an answer was made from: features, tables, files and lines, model, approval and training."""
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
