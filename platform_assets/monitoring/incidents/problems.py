"""Find problems without using Dagster's history, and open and close incidents."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from platform_assets.monitoring.incidents import kinds
from platform_assets.monitoring.incidents.kinds import cause

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from platform_assets.approval.ledger import Ledger
    from platform_assets.database.connections import Database
    from platform_assets.monitoring.incidents.incident import Severity
    from platform_assets.monitoring.incidents.store import Incidents
    from platform_assets.serving.live_models import ModelState

LEAST_FREE_BYTES = 2 << 30
LEAST_FREE_SHARE = 0.05
"""A disk is nearly full if less than 2 GiB are free. On a disk smaller than 40 GiB, the limit is 5 % instead."""
SHORTEST_FAILURE = timedelta(minutes=1)
"""Time after which a champion that cannot be loaded is reported. A restart of the database takes less time."""
DAEMON_SILENCE = timedelta(minutes=3)
"""Time without a heartbeat after which the daemon is assumed to be dead. The daemon sends a heartbeat every 30 s."""
DAEMON = cause(kinds.DAEMON_SILENT, "Dagster")
LOOKOUT = "sensor incidents"
"""Name under which the sensor `incidents`, which examines Dagster's history, stores its heartbeats."""
LOOKOUT_SILENCE = timedelta(minutes=10)
AUDIT = cause(kinds.AUDIT_FOUND, "approvals")
_DAEMON_TYPES = ["SENSOR", "SCHEDULER"]
_CONNECT_SECONDS = 10
_SHOWN = 3


@dataclass(frozen=True)
class Problem:
    """A problem. The attributes are the arguments of `Incidents.open_incident`."""

    cause: str
    title: str
    severity: Severity = "error"
    owners: tuple[str, ...] = ()
    link: str = ""
    occurrence: str = ""


@dataclass
class Findings:
    """Result of checking one or more causes of incidents.

    Attributes
    ----------
    problems
        The problems that were found.
    sound
        Checked causes for which no problem was found.
    quiet_for
        Argument of `Incidents.recover` for these causes.
    """

    problems: list[Problem] = field(default_factory=list)
    sound: set[str] = field(default_factory=set)
    quiet_for: timedelta = timedelta(0)

    def add(self, cause: str, problem: Problem | None) -> None:
        """Add the result of checking one cause; `problem` is None if no problem was found."""
        if problem is None:
            self.sound.add(cause)
        else:
            self.problems.append(problem)


def report(findings: Findings, incidents: Incidents) -> None:
    """Open an incident for each problem, and close the incidents of causes without a problem.

    Raises
    ------
    DatabaseError
        The database does not answer.
    """
    for one in findings.problems:
        incidents.open_incident(one.cause, one.title, one.severity, one.owners, one.link, one.occurrence)
    # Call `recover` only for causes with an unrecovered incident. Most causes have none, and each call is a query.
    for ended in findings.sound & incidents.unrecovered():
        incidents.recover(ended, quiet_for=findings.quiet_for)


def expired_requests(ledger: Ledger, owners: Mapping[str, tuple[str, ...]]) -> Findings:
    """Find models whose newest approval request expired.

    Parameters
    ----------
    ledger
        The record of decisions.
    owners
        Owners of each model.
    """
    found = Findings(sound={cause(kinds.REQUEST_EXPIRED, model) for model in owners})
    for request in ledger.unanswered():
        about = cause(kinds.REQUEST_EXPIRED, request.model)
        title = f"{request.called} expired without a decision"
        link, of_model = ledger.page(request.id), owners.get(request.model, ())
        found.sound.discard(about)
        found.add(about, Problem(about, title, "error", of_model, link, str(request.id)))
    return found


def champions(states: Mapping[str, ModelState], owners: Mapping[str, tuple[str, ...]]) -> Findings:
    """Find champions that this process cannot load.

    `quiet_for` is set in the result, so that an incident stays open while other processes fail to load the champion.

    Parameters
    ----------
    states
        States of the models in this process, by model.
    owners
        Owners of the models, by model.
    """
    found = Findings(quiet_for=3 * SHORTEST_FAILURE)
    now = datetime.now(UTC)
    for model, state in states.items():
        about = cause(kinds.CHAMPION_UNLOADABLE, model)
        if state.failure is None:
            found.add(about, None)
        elif state.failing_since is not None and now - state.failing_since >= SHORTEST_FAILURE:
            serving = f"version {state.live.version} is still served" if state.live else "requests are refused"
            found.add(about, Problem(about, f"{model}: {state.failure}; {serving}", "error", owners.get(model, ())))
    return found


def disk(folder: Path, free_bytes: Callable[[Path], tuple[int, int]] | None = None) -> Findings:
    """Check whether the disk of the embedded database is nearly full.

    Parameters
    ----------
    folder
        Folder on that disk.
    free_bytes
        Function that takes a folder and returns the total and the free bytes of its disk; `shutil` by default.
    """
    found = Findings()
    total, free = free_bytes(folder) if free_bytes else _disk(folder)
    about = cause(kinds.DISK_NEARLY_FULL, "embedded database")
    title = (
        f"the disk of the embedded database has {free / (1 << 30):.1f} of {total / (1 << 30):.0f} GiB left; PostgreSQL "
        "stops when the disk is full"
    )
    is_nearly_full = free < min(LEAST_FREE_BYTES, LEAST_FREE_SHARE * total)
    found.add(about, Problem(about, title) if is_nearly_full else None)
    return found


def daemon(database: Database, started: datetime) -> Findings:
    """Check whether Dagster's daemon is running. The daemon stores heartbeats in the database.

    Parameters
    ----------
    database
        The platform's databases.
    started
        Time at which these checks started, with time zone. A gap in the heartbeats before this time is ignored.

    Raises
    ------
    DatabaseError
        The database does not answer.
    """
    with database.connect("dagster", patience=_CONNECT_SECONDS) as connection:
        rows = connection.execute(
            "select daemon_type, timestamp at time zone 'UTC' from daemon_heartbeats where daemon_type = any(%s)",
            [_DAEMON_TYPES],
        ).fetchall()
    now, beats = datetime.now(UTC), dict(rows)
    silent = [one for one in _DAEMON_TYPES if now - max(beats.get(one, started), started) > DAEMON_SILENCE]
    found = Findings()
    last = max(beats.values(), default=None)
    seen = f"its last heartbeat was at {last:%Y-%m-%d %H:%M} UTC" if last else "it never sent a heartbeat"
    title = f"Dagster's daemon is not running ({', '.join(silent).lower()}); {seen}. Schedules and sensors do not run"
    found.add(DAEMON, Problem(DAEMON, title) if silent else None)
    return found


def lookout(incidents: Incidents, started: datetime) -> Findings:
    """Check that Dagster evaluates the sensor `incidents`, because this sensor detects failures in Dagster's history.

    Parameters
    ----------
    incidents
        Store of incidents, which also stores the sensor's heartbeats.
    started
        See `daemon`.

    Raises
    ------
    DatabaseError
        The database does not answer.
    """
    found, about = Findings(), cause(kinds.AUTOMATION_SILENT, LOOKOUT)
    last = incidents.last_beat(LOOKOUT)
    is_silent = datetime.now(UTC) - max(last or started, started) > LOOKOUT_SILENCE
    seen = f"since {last:%Y-%m-%d %H:%M} UTC" if last else "yet"
    title = f"the {LOOKOUT} has not been evaluated {seen}, so failures in Dagster are not detected"
    found.add(about, Problem(about, title) if is_silent else None)
    return found


def audit(lines: list[str]) -> Findings:
    """Convert the result of an audit of the approvals to one problem, or to none.

    Parameters
    ----------
    lines
        One line for each alteration that the audit found.
    """
    found = Findings()
    more = f"; and {len(lines) - _SHOWN} more" if len(lines) > _SHOWN else ""
    title = f"the audit found: {'; '.join(lines[:_SHOWN])}{more}"
    found.add(AUDIT, Problem(AUDIT, title) if lines else None)
    return found


def _disk(folder: Path) -> tuple[int, int]:
    usage = shutil.disk_usage(folder)
    return usage.total, usage.free
