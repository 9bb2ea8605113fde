"""Pages of settings, written from their classes: `make docs` runs this module.

The platform's page is in `docs/`. A domain's page is in its own folder, so that a further domain changes no other file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from platform_assets import domains
from platform_assets.settings import Settings, SettingsGroup, variable

if TYPE_CHECKING:
    from collections.abc import Iterator

HEAD = """# Settings

Environment variables, read once and validated when a command starts. `platform-assets doctor` says what is configured,
reachable or missing, and how to fix it; it also names variables that start with `PLATFORM_` and that nothing reads.

Object stores take their credentials from their own variables, for sources and lake alike: `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY`, `AWS_ENDPOINT_URL`, .. The lake speaks to S3, Azure and Google Cloud Storage without further
packages.

A domain's settings are in the `settings.md` of its folder below [domains](../platform_assets/domains).

This page is generated from the code by `make docs`.
"""
HEAD_OF_DOMAIN = """# Settings

Environment variables of [this domain](README.md). The platform's own are in
[docs/settings.md](../../../docs/settings.md). This page is generated from the code by `make docs`.
"""


def settings_pages() -> dict[str, str]:
    """Return each page as Markdown, by its path in the project: the platform's, and that of each domain."""
    pages = {"docs/settings.md": f"{HEAD}\n{_table(Settings)}"}
    for kind in domains.settings_classes():
        folder = "/".join(kind.__module__.split(".")[:-1])
        pages[f"{folder}/settings.md"] = f"{HEAD_OF_DOMAIN}\n{_table(kind)}"
    return pages


def _table(kind: type[SettingsGroup]) -> str:
    return "\n".join(["| variable | default | meaning |", "|---|---|---|", *_rows(kind), ""])


def _rows(kind: type[SettingsGroup]) -> Iterator[str]:
    for name, field in kind.model_fields.items():
        yield f"| `{variable(name)}` | {_shown(field.default)} | {field.description} |"


def _shown(default: Any) -> str:
    value = default.get_secret_value() if isinstance(default, SecretStr) else default
    return "empty" if value in {"", None} else f"`{value}`"


if __name__ == "__main__":
    for path, text in settings_pages().items():
        Path(path).write_text(text, encoding="utf-8")
