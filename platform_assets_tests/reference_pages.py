"""Generate the reference pages of commands, assets and HTTP routes from the code. `make docs` runs this module.

The module is not part of the package, because no subpackage may import all three entry points: commands, HTTP routes
and Dagster definitions. `platform_assets/operations/settings_page.py` generates the pages of settings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import typer

from platform_assets_tests.requirements import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

FOLDER = "docs/reference"
GENERATED = "`make docs` generates this page from the code."


def reference_pages() -> dict[str, str]:
    """Return the Markdown text of each page, keyed by the page's path in the project."""
    pages = {"commands": _commands(), "assets": _assets(), "http": _routes()}
    return {f"{FOLDER}/{name}.md": "\n".join(lines).rstrip() + "\n" for name, lines in pages.items()}


def _commands() -> Iterator[str]:
    from platform_assets import cli

    yield from ("# Commands", "", f"The subcommands of `platform-assets`, with their parameters. {GENERATED}", "")
    group: Any = typer.main.get_command(cli.app)
    for name, command in sorted(group.commands.items()):
        if not hasattr(command, "commands"):
            yield from _command(name, command)
            continue
        for subname, subcommand in sorted(command.commands.items()):
            yield from _command(f"{name} {subname}", subcommand)


def _command(name: str, command: Any) -> Iterator[str]:
    yield from (f"## `platform-assets {name}`", "", command.help, "")
    rows = [_parameter(parameter) for parameter in command.params if not parameter.hidden]
    if rows:
        yield from _table(("argument or option", "default", "meaning"), rows)


def _parameter(parameter: Any) -> tuple[str, str, str]:
    is_option = parameter.opts[0].startswith("-")
    name = ", ".join(parameter.opts) if is_option else (parameter.metavar or parameter.name.upper())
    default = "required" if parameter.required else _default(parameter)
    return f"`{name}`", default, parameter.help or ""


def _default(parameter: Any) -> str:
    if getattr(parameter, "is_flag", False):
        return "on" if parameter.default else "off"
    return "none" if parameter.default in (None, "", ()) or callable(parameter.default) else f"`{parameter.default}`"


def _assets() -> Iterator[str]:
    from platform_assets.definitions import defs

    yield from ("# Assets", "", f"All tables and models, with their columns and checks. {GENERATED}", "")
    graph = defs().get_repository_def().asset_graph
    for key in sorted(graph.get_all_asset_keys(), key=lambda key: key.to_user_string()):
        node: Any = graph.get(key)
        yield from (f"## `{key.to_user_string()}`", "", node.description, "")
        parents = sorted(parent.to_user_string() for parent in node.parent_keys)
        yield f"- Owners: {', '.join(sorted(node.owners))}"
        yield f"- Kinds: {', '.join(sorted(node.kinds))}"
        if parents:
            yield f"- Built from: {', '.join(f'`{parent}`' for parent in parents)}"
        if checks := sorted(check.name for check in node.check_keys):
            yield f"- Checks: {', '.join(f'`{check}`' for check in checks)}"
        yield ""
        if schema := node.metadata.get("dagster/column_schema"):
            columns = [(f"`{one.name}`", one.type, one.description or "") for one in schema.columns]
            yield from _table(("column", "type", "meaning"), columns)


def _routes() -> Iterator[str]:
    from platform_assets.app import create_app
    from platform_assets.settings import Settings

    described = create_app(Settings()).openapi()
    schemas = described["components"]["schemas"]
    yield from ("# HTTP routes", "", "The running service shows these routes with examples on `/docs`.")
    yield from (f"[The HTTP service](../service.md) describes keys, limits and errors. {GENERATED}", "")
    for path, methods in sorted(described["paths"].items()):
        for method, route in methods.items():
            yield from (f"## `{method.upper()} {path}`", "", route.get("description") or route["summary"], "")
            yield from _route(route, schemas)


def _route(route: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[str]:
    rows = [
        (f"`{one['name']}` ({one['in']})", "yes" if one.get("required") else "no", one.get("description", ""))
        for one in route.get("parameters", ())
    ]
    for media_type, body in route.get("requestBody", {}).get("content", {}).items():
        rows += [
            (f"`{name}` (body, {media_type})", "yes" if is_required else "no", text)
            for name, is_required, text in _fields(body["schema"], schemas)
        ]
    if rows:
        yield from _table(("parameter or field", "required", "meaning"), rows)
    statuses = [(status, one["description"]) for status, one in route["responses"].items()]
    yield from _table(("status", "response"), statuses)


def _fields(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
    """Yield the fields of a request body as tuples: name, whether the field is required, description."""
    if "$ref" in schema:
        yield from _fields(schemas[schema["$ref"].rpartition("/")[2]], schemas)
        return
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        # An optional field may have its description only in one of its `anyOf` alternatives.
        described = [one["description"] for one in (field, *field.get("anyOf", ())) if "description" in one]
        yield name, name in required, " ".join(described)


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|---" * len(head) + "|"
    for row in rows:
        yield f"| {' | '.join(_cell(value) for value in row)} |"
    yield ""


def _cell(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("|", r"\|")


if __name__ == "__main__":
    (ROOT / FOLDER).mkdir(exist_ok=True)
    for page, text in reference_pages().items():
        (ROOT / page).write_text(text, encoding="utf-8")
