"""The part of the audit about keys, revocations, projections and the decisions' proofs of identity.

A projection records that the registry shows the result of an event.

The database functions enter each key, revocation and projection in the journal. A row without an entry was inserted
without the functions. An entry without a row shows that the row was deleted. A row that differs from its entry was
altered.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import psycopg

    Connection = psycopg.Connection[Any]
    Texts = tuple[str | None, ...]
    Rows = Mapping[tuple[str, str], Mapping[str, Any]]

KEY_ID = 16
"""Number of leading characters of a key's hash that an event stores to identify the key."""
_FOLDING = ("folding", "case_folding")
_ROWS = {
    "key": """
select hash, jsonb_build_object('name', name, 'owner', owner, 'scopes', to_jsonb(scopes),
    'created_at', to_char(created_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'), 'is_person', is_person)
from platform.api_keys
""",
    "revocation": """
select hash, jsonb_build_object('at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
from platform.api_key_revocations
""",
    "projection": """
select sequence::text, jsonb_build_object('at', to_char(at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US'))
from platform.approval_projections
""",
}
_LETTERS = 'select letter, folded from platform.case_folding order by letter collate "C"'
_CALLED = {"key": "key", "revocation": "revocation of key", "projection": "projection of event"}
_ONCE = (*_CALLED, _FOLDING[0])
"""Kinds of rows that never change, so that each row has exactly one journal entry."""
_ADOPTION = "adoption"
_DECISIONS = {"approve", "reject", "withdraw", "roll_back"}
_WITHOUT_SCOPE = {"withdraw", "start_shadow", "stop_shadow"}
"""Actions that a person may take with a key of any scope."""


def read_rows(connection: Connection) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the rows that need journal entries, by kind and subject, in the same form as the entries' details."""
    rows = {
        (kind, subject): dict(facts)
        for kind, query in _ROWS.items()
        for subject, facts in connection.execute(query.encode())
    }
    letters = connection.execute(_LETTERS).fetchall()
    return rows | {_FOLDING: {"digest": folding_digest(dict(letters))}}


def folding_digest(folding: Mapping[str, str]) -> str:
    """Return the digest of the table `case_folding`, computed as in migration 0004."""
    return hashlib.sha256(json.dumps(sorted(folding.items())).encode()).hexdigest()


def journal_findings(journal: list[Texts], rows: Rows) -> Iterator[tuple[str, str]]:
    """Yield the row and the fault for each key, revocation or projection that was added, deleted or altered."""
    recorded = _recorded(journal)
    for (kind, subject), facts in recorded.items():
        if kind not in _CALLED and (kind, subject) != _FOLDING:
            continue
        called = _called(kind, subject, facts)
        row = rows.get((kind, subject))
        if row is None:
            yield called, "missing: deleted after it was written"
        else:
            altered = [name for name in row if facts.get(name) != row[name]]
            if altered:
                yield called, f"altered after it was written: {', '.join(altered)}"
    seen: set[tuple[str | None, str | None]] = set()
    for entry in journal:
        about = entry[1], entry[2]
        if entry[1] in _ONCE and about in seen:
            yield (
                f"journal entry {entry[0]}",
                f"records the {entry[1]} {str(entry[2])[:KEY_ID]} a second time: the {entry[1]} was altered",
            )
        seen.add(about)
    for kind, subject in rows:
        if (kind, subject) not in recorded:
            yield _called(kind, subject, rows[kind, subject]), "was added without a journal entry"


def adopted_until(journal: list[Texts]) -> int:
    """Return the number of the last event that existed before migration 0004; 0 if there was none."""
    adoptions = [json.loads(row[3] or "{}") for row in _by_migration(journal) if row[1] == _ADOPTION]
    return int(adoptions[0].get("sequence", 0)) if adoptions else 0


def adoption_findings(events: list[Texts], journal: list[Texts]) -> Iterator[tuple[str, str]]:
    """Yield the row and the fault for each forged adoption and for each adopted event that was replaced.

    An adoption is a journal entry with the hash of the last event before migration 0004. Only this migration writes
    adoptions.
    """
    written = [row[0] for row in _by_migration(journal)]
    hashes = {str(event[0]): event[-1] for event in events}
    for row in journal:
        if row[1] != _ADOPTION:
            continue
        facts = json.loads(row[3] or "{}")
        if row[0] not in written:
            yield f"journal entry {row[0]}", "adopts events, but was not written by the migration"
        elif hashes.get(str(facts.get("sequence"))) not in (None, facts.get("hash")):
            yield f"event {facts.get('sequence')}", "differs from the event that the migration adopted"


def _by_migration(journal: list[Texts]) -> Iterator[Texts]:
    """Yield the journal entries that migration 0004 wrote. The adoption, if there is one, is the last of them."""
    for row in journal:
        if row[1] not in (*_ONCE, _ADOPTION):
            return
        yield row
        if row[1] == _ADOPTION:
            return


def projection_findings(events: list[Texts], rows: Rows) -> Iterator[tuple[str, str]]:
    """Yield the row and the fault for each projection whose event is missing."""
    present = {event[0] for event in events}
    for kind, subject in rows:
        if kind == "projection" and subject not in present:
            yield _called(kind, subject, {}), "its event is missing"


def proof_findings(events: list[Texts], journal: list[Texts], rows: Rows) -> Iterator[tuple[str, str]]:
    """Yield the row and the fault for each event whose proof of identity is invalid.

    Decisions need a proof, and so do starting and stopping a shadow. Events from before migration 0004 have none and
    are skipped.
    """
    adopted = adopted_until(journal)
    entries = {f"{row[0]}:{row[-1]}" for row in journal}
    for event in events:
        sequence, kind, details = int(event[0] or 0), str(event[3]), json.loads(event[9] or "{}")
        if kind not in _DECISIONS | _WITHOUT_SCOPE or sequence <= adopted:
            continue
        actor, at = str(event[4]), str(event[10])
        if event[5] == "true":
            fault = _fault_of_key(details, (kind, actor, at), rows)
            if not fault and details.get("journal") not in entries:
                fault = "names a journal entry that does not exist"
        elif "claimed" in details and actor.startswith("unverified: "):
            fault = ""
        else:
            fault = "has no proof of identity, but does not mark the person's name as unverified"
        if fault:
            yield f"event {sequence}", fault


def _fault_of_key(details: Mapping[str, Any], decision: tuple[str, str, str], rows: Rows) -> str:
    """Return why the recorded key cannot have made the decision; empty if it can."""
    found = _keys_named(str(details.get("key")), rows)
    if not found:
        return "was decided with a key that does not exist"
    # Check all matching keys, because before migration 0017, several keys could begin with the same characters.
    faults = [_fault_of_named_key(subject, key, details, decision, rows) for subject, key in found]
    return min(faults, key=bool)


def _fault_of_named_key(
    subject: str, key: Mapping[str, Any], details: Mapping[str, Any], decision: tuple[str, str, str], rows: Rows
) -> str:
    kind, actor, at = decision
    if key["owner"] != actor:
        return f"was decided with a key of {key['owner']}, but records {actor} as the person who decided"
    if kind not in _WITHOUT_SCOPE and "approve" not in key["scopes"]:
        return "was decided with a key that lacks the scope `approve`"
    return _fault_of_time(subject, key, at, rows) or _fault_of_sign_in(key, details, at, rows)


def _fault_of_time(subject: str, key: Mapping[str, Any], at: str, rows: Rows) -> str:
    if key["created_at"] > at:
        return "was decided before its key was created"
    revoked = rows.get(("revocation", subject))
    return "was decided after its key was revoked" if revoked and revoked["at"] < at else ""


def _fault_of_sign_in(key: Mapping[str, Any], details: Mapping[str, Any], at: str, rows: Rows) -> str:
    """Return why the recorded sign-in cannot have identified a person; empty if it can, or if a key was used."""
    if not key.get("is_person") and "via" not in details:
        return ""
    if details.get("identity") != key["name"] or not key.get("is_person"):
        return "was decided by a person who did not sign in"
    found = [one for one in _keys_named(str(details.get("vouched_by")), rows) if "identify" in one[1]["scopes"]]
    if not found:
        return "was decided by a person whose identity was not confirmed by a key with the scope `identify`"
    return "vouching: " + fault if (fault := _fault_of_time(*found[0], at, rows)) else ""


def _keys_named(named: str, rows: Rows) -> list[tuple[str, Mapping[str, Any]]]:
    return [(subject, facts) for (of, subject), facts in rows.items() if of == "key" and subject[:KEY_ID] == named]


def _recorded(journal: list[Texts]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the details of the newest entry of each kind and subject."""
    return {(str(row[1]), str(row[2])): json.loads(row[3] or "{}") for row in journal}


def _called(kind: str, subject: str, facts: Mapping[str, Any]) -> str:
    if kind == "key":
        return f"key {facts.get('name')}"
    if kind == "revocation":
        return f"revocation of key {subject[:KEY_ID]}"
    return f"{_CALLED.get(kind, 'table')} {subject}"
