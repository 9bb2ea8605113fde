"""Messages for refusals by the ledger's database functions, and the check whether an approval is stale.

The rules themselves are SQL (`database/migrations/ledger`). A function returns a refusal as a code word. This module
turns it into a message with the problem and the fix.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

from platform_assets.approval.ledger_errors import DecisionRefused, LedgerError, NoSuchRequest
from platform_assets.approval.requests import UNVERIFIED, State
from platform_assets.base.printable_text import escaped

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from platform_assets.approval.ledger_events import Promotion
    from platform_assets.approval.requests import Request

Verb = Literal["approve", "reject", "withdraw"]
LONGEST_REASON = 10_000
"""Maximum length of a reason, in characters."""

# {thing} is the request or the action, {name} the person. The other fields come from the outcome and the policy.
_ABOUT_PEOPLE = {
    "no_verb": "{thing}: the decision must be approve, reject or withdraw",
    "no_reason": "{thing}: give a reason",
    "long_reason": f"{{thing}}: the reason is longer than {LONGEST_REASON:,} characters; shorten it",
    "unprintable_reason": "{thing}: the reason contains control or invisible characters; remove them",
    "no_name": "{thing}: the name is empty; give the name of the person who decides",
    "unprintable_name": "{thing}: a name contains control or invisible characters; remove them",
    "long_name": "{thing}: a name is longer than 200 characters; shorten it",
    "unknown_key": "{thing}: the key is unknown or revoked, or the session has ended; sign in again, or use another "
    "key",
    "not_authenticated": "{thing}: {name} is not authenticated, and PLATFORM_APPROVALS_REQUIRE_IDENTITY is on; set "
    "PLATFORM_API_KEY to a key with the scope `approve`, or sign in on the page",
    "no_scope": "{thing}: the key of {name} lacks the scope `approve`; an approver can create a key with it: "
    "`platform-assets keys add NAME --scope approve`",
    "not_an_approver": "{thing}: {name} is not one of the policy's approvers: {approvers}",
    "override_without_approval": "{thing}: only an approval can override a failed gate; leave the override out",
    "people_unknown": "{thing}: the policy needs the identity of each approver, so an approval needs a key; "
    "set PLATFORM_API_KEY, or sign in on the page",
    "unknown_launcher": "{thing}: the policy is four-eyes, but it is unknown who launched the training; approve a "
    "version that the schedule or the sensor trained",
    "involved": "{thing}: {name} launched the training or made the request, and the policy is four-eyes; another "
    "person must approve it",
    "nothing_to_override": "{thing} passed the gate, so there is nothing to override; approve it without override",
    "gate_failed": "{thing} did not pass the gate; {may_override} may approve it with an override",
    "may_not_override": "{thing}: {name} may not override a failed gate; {may_override} may",
    "no_report": "{thing} has no shadow report {report}; reload the page, or leave `seen_report` out",
    "voted": "{thing}: {name} has already approved it; it has {votes} of {approvals} approvals, and each must come "
    "from a different person",
}
_ABOUT_LEDGER = {
    "no_policy": "the database has no approval policy for {name}; run `platform-assets migrate`",
    "other_policy": "the approval policy of {name} in the database differs from the declaration in its model.py; run "
    "`platform-assets migrate`",
    "unreadable_evidence": "{thing}: no request was opened, because the evidence is malformed; it must "
    "be an object with the fields of `Evidence`, at most 50 levels deep and 20 MB",
    "is_champion": "{thing} is already the champion",
    "not_approved": "{thing} is not approved; nothing was recorded",
    "stale": "{thing} cannot be promoted any more; nothing was recorded",
    "shadow_days": "{thing}: the shadow's duration must be 1 to 31 days",
    "not_pending": "{thing} is not pending, and only a version that awaits a decision can have a shadow; open a new "
    "request: `platform-assets decide request MODEL VERSION`",
    "no_champion": "{thing}: {model} has no champion, so there are no predictions that a shadow could be compared "
    "with; approve a version first",
    "other_champion": "{thing} was not compared with the current champion; open a new request: "
    "`platform-assets decide request MODEL VERSION`",
    "no_shadow": "{thing} has no running shadow; `platform-assets shadow` lists the shadows",
    "unreadable_report": "{thing}: the shadow report is malformed, or longer than 100,000 bytes",
}
_NO_OVERRIDE = "under the policy, no one"


def refusal(outcome: Mapping[str, Any], thing: str, request: Request | None = None) -> LedgerError:
    """Return the error for a refusal of one of the ledger's functions.

    Parameters
    ----------
    outcome
        JSON that the function returned; `why` is the code word.
    thing
        The request or the action, as the subject of the message.
    request
        The request; None if there is none.
    """
    why, policy = outcome["why"], request.policy if request else None
    words = {
        "thing": thing,
        "name": _shown(outcome.get("name") or ""),
        "votes": outcome.get("votes"),
        "report": outcome.get("report"),
        "model": outcome.get("model"),
        "approvals": policy.approvals if policy else "",
        "approvers": ", ".join(policy.approvers) if policy and not isinstance(policy.approvers, str) else "",
        "may_override": (", ".join(policy.may_override) if policy else "") or _NO_OVERRIDE,
    }
    if why == "no_request":
        return NoSuchRequest(f"there is no {thing}; `platform-assets decide list --all` shows those that exist")
    if why in _ABOUT_PEOPLE:
        return DecisionRefused(_ABOUT_PEOPLE[why].format(**words))
    return LedgerError(_ABOUT_LEDGER[why].format(**words))


def _shown(name: str) -> str:
    bare = name.removeprefix(UNVERIFIED)
    return escaped(bare if bare == name else f"{bare} (identity not verified)")


def why_stale(request: Request, now: datetime, champion: Promotion | None) -> str | None:
    """Return why an approved request cannot be promoted any more; None if it can.

    Parameters
    ----------
    request
        The approved request.
    now
        Current time by the database's clock, with time zone.
    champion
        The current champion; None if there is none.
    """
    if request.state is not State.APPROVED:
        return f"it is {request.state.value}, but must be {State.APPROVED.value}"
    if request.is_expired(now):
        return f"it expired at {request.expires_at:%Y-%m-%d %H:%M:%S} UTC, before it was promoted"
    if (champion.digest if champion else None) != request.champion_digest:
        compared = f"version {request.champion_version}" if request.champion else "no champion"
        found = f"version {champion.version}" if champion else "none"
        return f"the champion is {found}, but the approved version was compared with {compared}"
    return None
