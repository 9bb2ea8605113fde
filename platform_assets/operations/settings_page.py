"""Generate the Markdown pages that list the environment variables. `make docs` runs this module.

The platform's page is `docs/settings.md`. Each domain has a `settings.md` in its own folder.
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

The platform is configured by environment variables. Each command reads and validates them once, when it starts, and
ignores blanks and line breaks around a value. `platform-assets doctor` reports what is configured, unreachable or
missing, and how to fix problems. It also warns about unknown variables whose names start with `PLATFORM_`.

Credentials of object stores come from the stores' own variables, for example `AWS_ACCESS_KEY_ID`,
`AWS_SECRET_ACCESS_KEY` and `AWS_ENDPOINT_URL`. They apply to sources and to the lake. The lake supports S3, Azure and
Google Cloud Storage without further packages.

Each domain lists its own variables in the `settings.md` of its folder in `platform_assets/domains`.

`make docs` generates this page from the code.
"""
HEAD_OF_DOMAIN = """# Settings

Environment variables of [this domain](README.md). The variables of the platform are listed in
[docs/settings.md](../../../docs/settings.md). `make docs` generates this page from the code.
"""


def settings_pages() -> dict[str, str]:
    """Return the Markdown text of each page, by its path in the project."""
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
