"""The application's description (OpenAPI), which also says which routes need a key, and with which scope."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI

from platform_assets.web.authorization import Gate, scopes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

KEY = "key"
"""What the description calls the key in the header."""
NEEDS_KEY = str(int(HTTPStatus.UNAUTHORIZED))


class DescribedApp(FastAPI):
    """An application that describes its keys.

    Attributes
    ----------
    gates
        What its routes demand.
    """

    gates: Sequence[Gate] = ()

    def openapi(self) -> dict[str, Any]:
        """Return the description."""
        if self.openapi_schema is None:
            described = super().openapi()
            described.setdefault("components", {})["securitySchemes"] = {KEY: {"type": "http", "scheme": "bearer"}}
            for path, method, operation in operations(described):
                if NEEDS_KEY in operation["responses"]:
                    operation["security"] = [{KEY: scopes_of(self.gates, method, path)}]
        assert self.openapi_schema is not None  # noqa: S101 - what the above makes
        return self.openapi_schema


def operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, method in capitals, and description of each operation."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation
