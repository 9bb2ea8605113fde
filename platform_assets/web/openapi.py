"""A FastAPI application without FastAPI's middleware for exceptions, and with a more complete OpenAPI description.

The description contains the scopes of the routes and an example of every response.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from fastapi import FastAPI
from fastapi.middleware.asyncexitstack import AsyncExitStackMiddleware

from platform_assets.base.json_values import JSON
from platform_assets.web.authorization import Gate, scopes_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from starlette.types import ASGIApp

KEY = "key"
"""Name of the security scheme."""
NEEDS_KEY = str(int(HTTPStatus.UNAUTHORIZED))
_TEXTS = {"date-time": "2026-01-31T12:00:00Z", "date": "2026-01-31"}
_DEEPEST = 6


class DescribedApp(FastAPI):
    """A FastAPI application without FastAPI's middleware for exceptions. Its description contains scopes and examples.

    Attributes
    ----------
    gates
        Access rules of the routes.
    """

    gates: Sequence[Gate] = ()

    def build_middleware_stack(self) -> ASGIApp:
        """Return the routes, wrapped in the platform's middleware.

        FastAPI's middleware for exceptions is left out, because `RequestMiddleware` turns exceptions into responses.
        """
        # Keep `AsyncExitStackMiddleware`, because it closes the files that a form has uploaded.
        app: ASGIApp = AsyncExitStackMiddleware(self.router)
        for added, arguments, named in reversed(self.user_middleware):
            app = added(app, *arguments, **named)
        return app

    def openapi(self) -> dict[str, Any]:
        """Return the description."""
        if self.openapi_schema is None:
            described = super().openapi()
            described.setdefault("components", {})["securitySchemes"] = {KEY: {"type": "http", "scheme": "bearer"}}
            for path, method, operation in operations(described):
                if NEEDS_KEY in operation["responses"]:
                    operation["security"] = [{KEY: scopes_of(self.gates, method, path)}]
                for response in operation["responses"].values():
                    _add_example(response.get("content", {}).get(JSON), described["components"].get("schemas", {}))
        assert self.openapi_schema is not None  # noqa: S101 - narrows the type
        return self.openapi_schema


def operations(described: Mapping[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Yield path, upper-case method and description of each operation."""
    for path, methods in described["paths"].items():
        for method, operation in methods.items():
            yield path, method.upper(), operation


def _add_example(content: dict[str, Any] | None, schemas: Mapping[str, Any]) -> None:
    """Add an example to a JSON response that has a schema and no example yet."""
    if content and content.get("schema") and not content.keys() & {"example", "examples"}:
        content["example"] = example(content["schema"], schemas)


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int = 0) -> Any:
    """Return a value that is valid under a JSON schema.

    Parameters
    ----------
    schema
        A schema as pydantic writes it.
    schemas
        The schemas to which `schema` may refer, by name.
    depth
        Depth of the value in the example; lists are empty below a limit, because schemas may be recursive.
    """
    if "$ref" in schema:
        return example(schemas[schema["$ref"].rpartition("/")[2]], schemas, depth)
    for given in (schema.get("examples"), [schema["const"]] if "const" in schema else None, schema.get("enum")):
        if given:
            return given[0]
    for choice in ("anyOf", "oneOf", "allOf"):
        if choice in schema and schema.get("type") != "object":
            return example(schema[choice][0], schemas, depth)
    return _of_type(schema, schemas, depth)


def _of_type(schema: Mapping[str, Any], schemas: Mapping[str, Any], depth: int) -> Any:
    kind = schema.get("type")
    if kind == "object":
        fields = schema.get("properties", {})
        return {name: example(field, schemas, depth + 1) for name, field in fields.items()}
    if kind == "array":
        return [example(schema.get("items", {}), schemas, depth + 1)] if depth < _DEEPEST else []
    if kind == "string":
        return _TEXTS.get(schema.get("format", ""), "text")
    return {"integer": max(1, schema.get("minimum", 1)), "number": 0.5, "boolean": True}.get(str(kind))
