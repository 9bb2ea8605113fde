"""Decisions and training runs on sample data, to fill the pages of a new platform.

Each model gets a champion. One model gets two more versions: one is trained on fewer rows and rejected, the other is
trained on more rows and awaits approval.
"""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from platform_assets.approval.requests import State
from platform_assets.base.errors import PlatformError
from platform_assets.operations.servers import dagster_environment, program

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.approval.requests import Actor, Request
    from platform_assets.services import Services
    from platform_assets.settings import Settings

FEWER_ROWS, MORE_ROWS = 0.15, 2.0
"""Sizes of the rejected and the pending version's training data, as multiples of PLATFORM_DEMO_ROWS."""
_APPROVED = "Sample decision: the version passed its gate."
_REJECTED = "Sample decision: the version was trained on too few rows."


def tell_story(services: Services, model: str, actor: Actor, say: Callable[[str], None]) -> None:
    """Approve and promote the versions that passed their gate, then train two more versions of one model.

    Parameters
    ----------
    services
        Services of a platform with sample data, after `platform-assets run`.
    model
        The model that gets two more versions.
    actor
        The person who decides.
    say
        Receives a message for each step.

    Raises
    ------
    PlatformError
        One of: the platform is not a development platform with sample data; the model already has a champion; the model
        has no pending request that passed its gate; a training run fails.
    """
    _demand_new(services, model)
    for name in services.registry.names():
        for request in [one for one in services.ledger.requests(name)[:1] if one.state == State.PENDING and one.passed]:
            services.ledger.decide(request.id, "approve", actor, _APPROVED)
            services.promoter.promote(request.id)
            say(f"{name} version {request.version} is the champion")
    small = _trained(services, model, FEWER_ROWS, say)
    services.ledger.decide(small.id, "reject", actor, _REJECTED)
    say(f"{small.called} is rejected")
    large = _trained(services, model, MORE_ROWS, say)
    say("measuring models and tables ..")
    _run(services.settings, "monitor")
    say(f"{large.called} awaits your decision")


def _demand_new(services: Services, model: str) -> None:
    settings = services.settings
    if settings.env != "development" or settings.sources != "demo":
        raise PlatformError(
            "`demo story` approves models, so it works only with PLATFORM_ENV=development and PLATFORM_SOURCES=demo"
        )
    if services.ledger.champion(model):
        raise PlatformError(
            f"{model} has a champion already; `demo story` is for a new platform: set PLATFORM_HOME to a new folder, "
            "and run `platform-assets run` first"
        )
    newest = next(iter(services.ledger.requests(model)), None)
    if newest is None or newest.state != State.PENDING or not newest.passed:
        raise PlatformError(f"{model} has no pending request that passed its gate; run `platform-assets run` first")


def _trained(services: Services, model: str, share: float, say: Callable[[str], None]) -> Request:
    """Train a model on `share` times the usual number of sample rows; return its approval request."""
    rows = round(share * services.settings.demo_rows)
    say(f"training {model} on {rows:,} sample rows ..")
    before = services.ledger.requests(model)[0].id
    _run(services.settings, f"train_{model}", PLATFORM_DEMO_ROWS=str(rows))
    newest = services.ledger.requests(model)[0]
    if newest.id == before:
        raise PlatformError(
            f"the training on {rows:,} rows opened no approval request; `platform-assets up` shows the run"
        )
    return newest


def _run(settings: Settings, job: str, **variables: str) -> None:
    """Run a job in a new process, because it needs other settings."""
    done = subprocess.run(  # noqa: S603 - no shell
        [program("dagster"), "job", "execute", "-m", "platform_assets.definitions", "-j", job],
        env=os.environ | dagster_environment(settings) | {"PLATFORM_AUTOMATION": "off"} | variables,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if done.returncode:
        last = done.stdout.strip().rpartition("\n")[2]
        raise PlatformError(f"the job {job} failed; `platform-assets up` shows the run. Its last message: {last}")
