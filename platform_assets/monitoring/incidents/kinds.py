"""The kinds of incidents. For each kind, docs/alerts.md has a section with its name that says what to do."""

from __future__ import annotations

from typing import Final

RUN_FAILED: Final = "run_failed"
CHECK_FAILED: Final = "check_failed"
AUTOMATION_FAILED: Final = "automation_failed"
AUTOMATION_SILENT: Final = "automation_silent"
DATA_LATE: Final = "data_late"
CHAMPION_UNLOADABLE: Final = "champion_unloadable"
REQUEST_EXPIRED: Final = "request_expired"
DISK_NEARLY_FULL: Final = "disk_nearly_full"
AUDIT_FOUND: Final = "audit_found"
DAEMON_SILENT: Final = "daemon_silent"
SERVER_ENDED: Final = "server_ended"

KINDS = {
    RUN_FAILED: "A run failed, and no later run of the same assets or job has succeeded.",
    CHECK_FAILED: "An asset check of severity ERROR failed.",
    AUTOMATION_FAILED: "The evaluation of a schedule or sensor failed.",
    AUTOMATION_SILENT: "A running schedule or sensor was not evaluated when it was due.",
    DATA_LATE: "An asset is older than its freshness policy allows.",
    CHAMPION_UNLOADABLE: "The service cannot load the champion of a model.",
    REQUEST_EXPIRED: "An approval request expired without a decision.",
    DISK_NEARLY_FULL: "The disk of the embedded database is nearly full.",
    AUDIT_FOUND: "The audit found altered decisions, keys, policies or artifacts.",
    DAEMON_SILENT: "Dagster's daemon sends no heartbeat, so schedules and sensors do not run.",
    SERVER_ENDED: "A server of `platform-assets up` ended unexpectedly, so all its servers were stopped.",
}
"""Description of each kind."""


def cause(kind: str, subject: str) -> str:
    """Return the cause of an incident: its kind and its subject as one string.

    Parameters
    ----------
    kind
        One of `KINDS`.
    subject
        The affected object, for example an asset key.
    """
    return f"{kind} {subject}"


def kind_of(cause: str) -> str:
    """Return the kind of a cause.

    Raises
    ------
    ValueError
        The kind is not in `KINDS`, or the subject is missing.
    """
    kind, _, subject = cause.partition(" ")
    if kind not in KINDS or not subject:
        raise ValueError(f"the cause {cause!r} must be a kind and a subject; the kinds are {', '.join(KINDS)}")
    return kind


def subject_of(cause: str) -> str:
    """Return the subject of a cause, such as an asset key."""
    return cause.partition(" ")[2]
