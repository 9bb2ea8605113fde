"""The part of the audit that replays the rules: whether each event was allowed when it was written.

An event with correct hashes can still break a rule, if the tables' owner temporarily disabled a trigger or replaced a
function. This module implements the rules of `database/migrations/ledger` a second time. Events from before migration
0004 are not checked, but they determine the states against which later events are checked.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from platform_assets.approval.ledger_events import LONGEST_DAYS, SHADOW_STEPS
from platform_assets.approval.policy import ANYONE
from platform_assets.approval.requests import UNVERIFIED

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psycopg

    Connection = psycopg.Connection[Any]
    Texts = tuple[str | None, ...]

_MOMENT = """to_char({} at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US')"""
_REQUESTS = f"""
select id, model, digest, champion_digest, launched_by, requested_by, {_MOMENT.format("created_at")},
    {_MOMENT.format("expires_at")}, policy, coalesce(evidence -> 'verdict' -> 'passed' = 'true', false)
from platform.approval_requests
"""  # noqa: S608 - nothing of it comes from outside
_ALLOWED = {
    ("request", None, "PENDING"),
    ("approve", "PENDING", "PENDING"),
    ("approve", "PENDING", "APPROVED"),
    ("reject", "PENDING", "REJECTED"),
    ("withdraw", "PENDING", "WITHDRAWN"),
    ("expire", "PENDING", "EXPIRED"),
    ("supersede", "PENDING", "SUPERSEDED"),
    ("promote", "APPROVED", "PROMOTED"),
    ("fail", "APPROVED", "FAILED"),
    ("roll_back", "PROMOTED", "ROLLED_BACK"),
    *((kind, "PENDING", "PENDING") for kind in SHADOW_STEPS),
}
_DECISIONS = {"approve", "reject", "withdraw"}
_UNKNOWN_LAUNCHERS = {"", "user", "unknown"}
_ROUNDING = timedelta(seconds=1)


@dataclass(frozen=True)
class RequestFacts:
    """Facts about one request that the rules depend on.

    Attributes
    ----------
    model, digest, champion_digest, launched_by, requested_by, policy
        As in `Request`; the policy as JSON.
    created_at, expires_at
        In UTC, as the texts that are hashed. Sorting these texts sorts them by time.
    passed
        Whether the version passed the gate.
    """

    model: str
    digest: str
    champion_digest: str | None
    launched_by: str | None
    requested_by: str | None
    created_at: str
    expires_at: str
    policy: Mapping[str, Any]
    passed: bool

    @property
    def involved(self) -> set[str]:
        """Names of those who launched the training or made the request, with and without the `UNVERIFIED` prefix."""
        named = [name for name in (self.launched_by, self.requested_by) if name]
        return {_folded(form) for name in named for form in (name, name.removeprefix(UNVERIFIED))} - {""}


@dataclass
class _Replay:
    states: dict[int, str] = field(default_factory=dict)
    votes: dict[int, set[str]] = field(default_factory=lambda: defaultdict(set))
    champions: dict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    shadowed: set[int] = field(default_factory=set)
    reports: dict[int, set[int]] = field(default_factory=lambda: defaultdict(set))


def read_requests(connection: Connection) -> dict[int, RequestFacts]:
    """Return the facts of each request, by number."""
    return {row[0]: RequestFacts(*row[1:]) for row in connection.execute(_REQUESTS.encode())}


def rule_findings(
    events: list[Texts], journal: list[Texts], requests: Mapping[int, RequestFacts], adopted: int
) -> Iterator[tuple[int, int, str]]:
    """Yield the request, the event and the fault for each event that the rules did not allow.

    Parameters
    ----------
    events, journal
        Oldest first, as the texts that are hashed.
    requests
        By number; see `read_requests`.
    adopted
        Number of the last event that existed before migration 0004; see `adopted_until`. Events up to it are not
        checked.
    """
    replay, rules = _Replay(), [row for row in journal if row[1] in {"rules", "policy"}]
    for event in events:
        sequence, number, state, kind = int(event[0] or 0), int(event[1] or 0), str(event[2]), str(event[3])
        asked = requests.get(number)
        if asked is None:
            continue
        before = replay.states.get(number)
        if sequence > adopted:
            if (kind, before, state) not in _ALLOWED:
                fault: str | None = f"changed the request from {before or 'new'} to {state}, which no rule allows"
            else:
                try:
                    fault = _fault(event, asked, replay, rules, requests)
                except (KeyError, TypeError, ValueError):
                    fault = "belongs to a request whose policy cannot be read"
            if fault:
                yield number, sequence, fault
        _apply(event, asked.model, replay)


def _apply(event: Texts, model: str, replay: _Replay) -> None:
    """Apply an event to the state that the next events are checked against."""
    number, kind = int(event[1] or 0), str(event[3])
    replay.states[number] = str(event[2])
    if kind == "approve":
        replay.votes[number].add(_folded(event[4]))
    elif kind == "promote":
        replay.champions[model].append(number)
    elif kind == "roll_back" and number in replay.champions[model]:
        replay.champions[model].remove(number)
    elif kind == "start_shadow":
        replay.shadowed.add(number)
    elif kind == "stop_shadow":
        replay.shadowed.discard(number)
    elif kind == "report_shadow":
        replay.reports[number].add(int(event[0] or 0))


def _fault(
    event: Texts, asked: RequestFacts, replay: _Replay, journal: list[Texts], requests: Mapping[int, RequestFacts]
) -> str | None:
    number, kind, at = int(event[1] or 0), str(event[3]), str(event[10])
    champions = replay.champions[asked.model]
    if kind in _DECISIONS:
        late = "was decided after the request had expired" if at >= asked.expires_at else None
        person = _fault_of_person(event, asked) or _fault_of_identity(event, journal)
        seen = _fault_of_seen_report(event, replay.reports[number])
        return late or person or seen or _fault_of_approval(event, asked, replay.votes[number])
    if kind in SHADOW_STEPS:
        champion = requests[champions[-1]].digest if champions else None
        return _fault_of_shadow(event, asked, champion, is_running=number in replay.shadowed) or (
            None if kind == "report_shadow" else _fault_of_identity(event, journal)
        )
    if kind == "request":
        return _fault_of_request(asked, at, journal)
    if kind == "promote":
        champion = requests[champions[-1]].digest if champions else None
        return _fault_of_promotion(asked, at, len(replay.votes[number]), champion)
    if kind == "roll_back":
        stands = champions[1:] and champions[-1] == number
        wrong = None if stands else "rolled back a version that was not the champion, or had no predecessor"
        return wrong or _fault_of_identity(event, journal)
    return "expired the request before its time" if kind == "expire" and at < asked.expires_at else None


def _fault_of_promotion(asked: RequestFacts, at: str, votes: int, champion: str | None) -> str | None:
    if votes < asked.policy["approvals"]:
        return "promoted a version that too few people had approved"
    if at >= asked.expires_at:
        return "promoted a version after its request had expired"
    return (
        None
        if champion == asked.champion_digest
        else "promoted a version that was not compared with the current champion"
    )


def _fault_of_request(asked: RequestFacts, at: str, journal: list[Texts]) -> str | None:
    if _in_force(journal, "policy", asked.model, at) != asked.policy:
        return "opened a request with a policy that was not in force"
    lifetime = datetime.fromisoformat(asked.expires_at) - datetime.fromisoformat(asked.created_at)
    declared = timedelta(seconds=asked.policy["lifetime_seconds"])
    return "opened a request whose lifetime differs from the policy's" if abs(lifetime - declared) > _ROUNDING else None


def _fault_of_shadow(event: Texts, asked: RequestFacts, champion: str | None, *, is_running: bool) -> str | None:
    kind, at = str(event[3]), str(event[10])
    if at >= asked.expires_at:
        return "concerns a shadow whose request had expired"
    if kind != "start_shadow":
        return None if is_running else "concerns a shadow that was not running"
    if champion is None or champion != asked.champion_digest:
        return "started the shadow of a version that was not compared with the current champion"
    days = json.loads(event[9] or "{}").get("days")
    return None if isinstance(days, int) and 1 <= days <= LONGEST_DAYS else "started a shadow with an invalid duration"


def _fault_of_seen_report(event: Texts, reports: set[int]) -> str | None:
    seen = json.loads(event[9] or "{}").get("shadow_report")
    return None if seen is None or seen in reports else "names a shadow report that does not belong to the request"


def _fault_of_identity(event: Texts, journal: list[Texts]) -> str | None:
    rules = _in_force(journal, "rules", "", str(event[10])) or {}
    if event[5] != "true" and rules.get("identity_required", True):
        return "was decided without a key, although decisions needed one"
    return None


def _fault_of_person(event: Texts, asked: RequestFacts) -> str | None:
    kind, person, approvers = str(event[3]), _folded(event[4]), asked.policy["approvers"]
    withdraws_own = kind == "withdraw" and person in {_folded(asked.launched_by), _folded(asked.requested_by)}
    if not withdraws_own and approvers != ANYONE and person not in map(_folded, approvers):
        return "was decided by a person whom the policy does not name"
    return None


def _fault_of_approval(event: Texts, asked: RequestFacts, votes: set[str]) -> str | None:
    state, person, override, policy = str(event[2]), _folded(event[4]), event[7] == "true", asked.policy
    number, needed = len(votes) + 1, policy["approvals"]
    if event[3] != "approve":
        return "overrode a gate without an approval" if override else None
    is_own = person in asked.involved or _folded(asked.launched_by) in _UNKNOWN_LAUNCHERS
    may_override = person in map(_folded, policy["may_override"])
    faults = {
        "approved without a key, although the policy needs the identity of each approver": event[5] != "true"
        and (policy["four_eyes"] or needed > 1),
        "approved against the four-eyes rule": policy["four_eyes"] and is_own,
        "overrode a gate that had passed": override and asked.passed,
        "approved a version that failed the gate, without an override": not override and not asked.passed,
        "overrode a failed gate, although the policy does not allow this person to": override and not may_override,
        "approved a second time": person in votes,
        f"made the request {state} with {number} of {needed} approvals": (number >= needed) != (state == "APPROVED"),
    }
    return next((told for told, holds in faults.items() if holds), None)


def _in_force(journal: list[Texts], kind: str, subject: str, at: str) -> Any:
    """Return the details of the entry that was the newest at a given time; None if there was none."""
    found = [row[3] for row in journal if (row[1], row[2]) == (kind, subject) and str(row[5]) <= at]
    return json.loads(found[-1] or "null") if found else None


def _folded(name: str | None) -> str:
    return (name or "").strip().casefold()
