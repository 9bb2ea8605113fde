"""The page `docs/settings.md`, written from the classes of settings: `make docs` runs this module."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from platform_assets import domains
from platform_assets.settings import Settings, SettingsGroup, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = "docs/settings.md"
HEAD = """# Settings

Environment variables, read once and validated when a command starts. `platform-assets doctor` says what is configured,
reachable or missing, and how to fix it; it also names variables that start with `PLATFORM_` and that nothing reads.

Object stores take their credentials from their own variables, for sources and lake alike: `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, .. The lake speaks to S3, Azure and Google Cloud Storage without further
packages.

This page is generated from the code by `make docs`.
"""


def settings_page() -> str:
    """Return the page as Markdown: one table for the platform, and one for each domain."""
    tables = [_table("The platform", Settings)]
    for kind in domains.settings_classes():
        name = kind.__module__.split(".")[-2]
        tables.append(_table(f"[{name}](../platform_assets/domains/{name}/README.md)", kind))
    return "\n".join([HEAD, *tables])


def _table(title: str, kind: type[SettingsGroup]) -> str:
    return "\n".join([f"## {title}", "", "| variable | default | meaning |", "|---|---|---|", *_rows(kind), ""])


def _rows(kind: type[SettingsGroup]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield f"| `{variable(name)}` | {_shown(field.default)} | {field.description} |"


def _shown(default: Any) -> str:
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    return "empty" if value in {"", None} else f"`{value}`"


if __name__ == "__main__":
    Path(PAGE).write_text(settings_page(), encoding="utf-8")
