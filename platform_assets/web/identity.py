"""A person whom an OpenID Connect provider or a proxy has identified, and the scopes that the person's groups grant."""

from __future__ import annotations

import re
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import TYPE_CHECKING

from platform_assets.web.key_errors import KeysError
from platform_assets.web.key_ring import IDENTIFY, SCOPES

if TYPE_CHECKING:
    from collections.abc import Iterable


_SMALL = str.maketrans(ascii_uppercase, ascii_lowercase)


@dataclass(frozen=True)
class Identity:
    """A person whom a provider or a proxy has identified.

    Attributes
    ----------
    name
        Name of the person at the provider or the proxy, for example an email address.
    groups
        Groups or roles of the person.
    via
        `oidc` or `proxy`.
    """

    name: str
    groups: frozenset[str]
    via: str


def is_same_name(one: str, other: str) -> bool:
    """Return whether two names from a provider identify the same person. Only the case of A to Z is ignored.

    Case folding would equate more names, such as `weiss` and `weiß`, which a provider can give to different people.
    The database function `platform.identity_form` (migration 0017) also ignores only the case of A to Z.
    """
    return one.translate(_SMALL) == other.translate(_SMALL)


class GroupScopes:
    """The scopes that groups grant.

    Parameters
    ----------
    text
        PLATFORM_GROUP_SCOPES: `GROUP=read+approve; OTHER=read`.

    Raises
    ------
    KeysError
        A scope is unknown, or is `identify`.
    """

    def __init__(self, text: str) -> None:
        self._scopes: dict[str, frozenset[str]] = {}
        allowed = [scope for scope in SCOPES if scope != IDENTIFY]
        for entry in filter(None, map(str.strip, re.split(r"[;\n]", text))):
            group, _, listed = entry.rpartition("=")
            scopes = frozenset(scope.strip() for scope in listed.split("+"))
            if not scopes <= set(allowed):
                unknown = ", ".join(sorted(scopes - set(allowed)))
                raise KeysError(
                    f"PLATFORM_GROUP_SCOPES: a group cannot give {unknown}; choose from {', '.join(allowed)}"
                )
            self._scopes[group.strip()] = self._scopes.get(group.strip(), frozenset()) | scopes

    def of(self, groups: Iterable[str]) -> frozenset[str] | None:
        """Return the union of the scopes of some groups; None if PLATFORM_GROUP_SCOPES is empty."""
        if not self._scopes:
            return None
        return frozenset().union(*(self._scopes.get(group, frozenset()) for group in groups))

    @property
    def give_approve(self) -> bool:
        """Whether people can use the scope `approve`: a group grants this scope, or PLATFORM_GROUP_SCOPES is empty."""
        return not self._scopes or any("approve" in scopes for scopes in self._scopes.values())
