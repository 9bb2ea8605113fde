"""Public keys that verify the ID tokens of an OpenID Connect provider."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KINDS = {"RS256": ("RSA", None), "ES256": ("EC", "P-256")}
"""Accepted algorithms, each with the type and the curve of its keys. No algorithm with a shared secret is accepted."""
FRESH_SECONDS = 3_600.0
"""Time for which keys are cached. After this time, a key that the provider has withdrawn is no longer accepted."""
LEAST_RSA_BITS = 2_048


class SigningKeys:
    """Cache of the provider's keys.

    If a token was signed with an unknown key, the keys are loaded again, because providers rotate their keys.

    Parameters
    ----------
    fetch
        Function that returns the provider's JSON Web Key Set.
    """

    def __init__(self, fetch: Callable[[], dict[str, Any]]) -> None:
        self._fetch = fetch
        self._known: list[dict[str, Any]] = []
        self._loaded_at = float("-inf")
        self._lock = threading.Lock()

    def load(self) -> int:
        """Load the keys from the provider; return the number of usable keys.

        Raises
        ------
        ProviderError
            The provider does not answer.
        """
        listed = self._fetch().get("keys")
        found = [key for key in listed if isinstance(key, dict)] if isinstance(listed, list) else []
        self._known = [key for key in found if any(_fits(key, algorithm) for algorithm in KINDS)]
        self._loaded_at = time.monotonic()
        return len(self._known)

    def of(self, header: Mapping[str, Any]) -> tuple[Any, str]:
        """Return the key and the algorithm for the header of a token.

        Raises
        ------
        jwt.PyJWTError
            The algorithm is not accepted, or the provider has no such key.
        ProviderError
            The provider does not answer.
        """
        import jwt

        algorithm = header.get("alg")
        if algorithm not in KINDS:
            raise jwt.InvalidAlgorithmError(
                f"its algorithm is {str(algorithm)[:20]!r}; accepted algorithms: {', '.join(KINDS)}"
            )
        with self._lock:
            is_fresh = time.monotonic() - self._loaded_at < FRESH_SECONDS
            found = self._matching(header.get("kid"), algorithm) if is_fresh else []
            if len(found) != 1:
                self.load()
                found = self._matching(header.get("kid"), algorithm)
        if len(found) != 1:
            raise jwt.InvalidKeyError("the provider does not publish the key that signed it")
        key: Any = jwt.PyJWK(found[0], algorithm).key
        if algorithm == "RS256" and key.key_size < LEAST_RSA_BITS:
            raise jwt.InvalidKeyError(f"its RSA key has {key.key_size} bits; at least {LEAST_RSA_BITS} are needed")
        return key, algorithm

    def _matching(self, kid: object, algorithm: str) -> list[dict[str, Any]]:
        return [key for key in self._known if kid in {None, key.get("kid")} and _fits(key, algorithm)]


def _fits(key: Mapping[str, Any], algorithm: str) -> bool:
    kind, curve = KINDS[algorithm]
    return (
        key.get("kty") == kind
        and (curve is None or key.get("crv") == curve)
        and key.get("use", "sig") == "sig"
        and key.get("alg", algorithm) == algorithm
    )
