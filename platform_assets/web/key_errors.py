"""Errors about keys and people, and the messages for refusals by the database functions."""

from __future__ import annotations

from http import HTTPStatus

from platform_assets.base.errors import PlatformError

REFUSALS = {
    "name_taken": "there is already a key '{name}'; choose another name, or revoke that key first",
    "needs_approver": "the key {name} has the scope `approve`, so only the database's owner or an approver can create "
    "it; set PLATFORM_MIGRATION_DATABASE_URL, or set PLATFORM_API_KEY to the key of an approver",
    "unknown_key": "the key in PLATFORM_API_KEY is unknown or revoked; unset it, or use the key of an approver",
    "reserved_name": "the key {name}: {owner} cannot be an owner, because the ledger uses such names for the platform "
    "and for unverified people; choose another owner",
    "unprintable_name": "the key {name}: its owner contains control or invisible characters; remove them",
    "needs_owner": "the key {name} has the scope `identify`, so only the database's owner can create it; set "
    "PLATFORM_MIGRATION_DATABASE_URL",
    "identifies_only": "the key {name} cannot combine the scope `identify` with other scopes, because `identify` is "
    "only for the service's own key; remove the other scopes",
    "malformed_key": "the key {name}: its name or hash is malformed, its hash is that of a session, or its owner is "
    "longer than 200 characters",
}
_MALFORMED_NAME = "the name {name} cannot be used: it is reserved, too long, or the name of a key"
PERSON_REFUSALS = {
    "unknown_service": "the service may not sign people in: PLATFORM_SIGN_IN_KEY must be an unrevoked key with the "
    "scope `identify`; `platform-assets doctor` checks it",
    "malformed_session": _MALFORMED_NAME,
    "unknown_person": "{name} is not enrolled; an administrator can run `platform-assets people add {name} --scope "
    "read`",
    "person_revoked": "the access of {name} was revoked; an administrator can restore it with `platform-assets people "
    "add {name} --scope read`",
    "reserved_name": _MALFORMED_NAME,
    "unprintable_name": "the name contains control or invisible characters",
    "malformed_key": _MALFORMED_NAME,
    "name_taken": _MALFORMED_NAME,
}


class KeysError(PlatformError):
    """A key cannot be created, found or revoked."""


class PersonRefused(KeysError):  # noqa: N818 - the name is the message
    """The platform refuses the sign-in of a person whom a provider or a proxy has identified."""

    status = HTTPStatus.FORBIDDEN
    problem = "not-enrolled"
