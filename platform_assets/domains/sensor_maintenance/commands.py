"""`demo devices`: simulate devices that drop files into the landing zone."""

from __future__ import annotations

import signal
import threading
from typing import Annotated

import typer

from platform_assets.base.command_line import say
from platform_assets.domains.sensor_maintenance.simulator import SEED, drops, simulate
from platform_assets.domains.sensor_maintenance.sources import INCOMING
from platform_assets.landing.commands import demo

commands = typer.Typer()


@demo.command()
def devices(
    context: typer.Context,
    files: Annotated[int, typer.Option(min=0, help="Number of files; 0: write files until Ctrl-C.")] = 0,
    per_minute: Annotated[float, typer.Option(min=0.1, max=6_000, help="Files per minute.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Random seed for the kinds and contents of the files.")] = SEED,
) -> None:
    """Drop files with sensor readings into the landing zone, some of them late, repeated, half-written or damaged."""
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    uri = context.obj.services.zones.find(INCOMING).folder.source.uri
    written = simulate(uri, drops(files, seed), lambda: not stop.wait(60 / per_minute), say)
    say(f"files written: {written}")
