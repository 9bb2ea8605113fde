"""What the documents name exists: make targets, commands, variables, and the files they link to."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import typer
from typer.core import TyperGroup

from platform_assets import domains
from platform_assets.operations.settings_page import settings_pages
from platform_assets.settings import Settings, SettingsGroup, variable
from platform_assets_tests.conftest import REAL_DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
# The requirements name what is still to be built.
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "platform_assets/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if page != ROOT / "docs" / "requirements.md"
]

_BLOCK = re.compile(r"^(```|~~~).*?\n(.*?)^\1|((?:^(?: {4}|\t).*\n)+)", re.MULTILINE | re.DOTALL)
_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_MAKE = re.compile(r"(?<![\w-])make((?:[ \t]+[A-Z]\w*=(?:\"[^\"]*\"|'[^']*'|\S*))*)[ \t]+([a-z][\w-]*)")
_COMMAND = re.compile(r"(?<![\w./-])(?:\.venv/bin/)?platform-assets[ \t]+([a-z][\w-]*)(?:[ \t]+([a-z][\w-]*))?")
_VARIABLE = re.compile(r"(?<!\w)PLATFORM_[A-Z0-9_]*[A-Z0-9](?![\w*<])")
_MODULE = re.compile(r"(?<![\w./:-])(?:[\w-]+/)*\w+\.py(?!\w)")
_LINK = re.compile(
    r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)\"", re.MULTILINE
)


@cache
def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


@cache
def modules() -> list[str]:
    folders = ("platform_assets", "platform_assets_tests", "benchmarks")
    return [f"/{file.relative_to(ROOT)}" for folder in folders for file in (ROOT / folder).rglob("*.py")]


@cache
def command_line() -> TyperGroup:
    from platform_assets import cli

    command = typer.main.get_command(cli.app)
    assert isinstance(command, TyperGroup)
    return command


def variables() -> set[str]:
    kinds: list[type[SettingsGroup]] = [Settings, *domains.settings_classes()]
    return {variable(field) for kind in kinds for field in kind.model_fields} | {REAL_DATA}


def code_in(text: str) -> list[str]:
    """Code blocks and code spans of a page."""
    blocks = [fenced or indented for _, fenced, indented in _BLOCK.findall(text)]
    return blocks + [span for _, span in _SPAN.findall(_BLOCK.sub("", text))]


def faults(page: Path) -> Iterator[str]:
    """Everything that a page names and that does not exist."""
    text = page.read_text()
    for code in code_in(text):
        yield from (f"make {target}" for _, target in _MAKE.findall(code) if target not in make_targets())
        yield from (name for name in _VARIABLE.findall(code) if name not in variables())
        yield from (name for name in _MODULE.findall(code) if not any(file.endswith(f"/{name}") for file in modules()))
        yield from (f"platform-assets {' '.join(words)}" for words in _COMMAND.findall(code) if not is_command(*words))
    for target in (next(filter(None, groups)) for groups in _LINK.findall(_BLOCK.sub("", text))):
        path = target.split("#")[0]
        if path and not re.match(r"[a-z]+:", path) and not (page.parent / path).exists():
            yield f"link to {target}"


def is_command(name: str, second: str) -> bool:
    command = command_line().commands.get(name)
    return second in command.commands if isinstance(command, TyperGroup) and second else command is not None


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_names_exists(page: Path) -> None:
    assert list(faults(page)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('`make test` and `make test ARGS="-k loans"`', []),
        ("`make tset`", ["make tset"]),
        ("```\nX=1 make tset\n```", ["make tset"]),
        ("    make ARGS='a b' tset\n", ["make tset"]),
        ("to make sense in prose", []),
        ("`PLATFORM_HOME`, `PLATFORM_<FIELD>` and `PLATFORM_*`", []),
        ("`PLATFORM_HOUSE=x make run`", ["PLATFORM_HOUSE"]),
        ("`settings.py`, `platform_assets/web/pages.py` and `web/test_paging.py`", []),
        ("`web/gone.py`", ["web/gone.py"]),
        ("[here](page.md), [there](page.md#part), [far](https://example.org/x), [up](#part)", []),
        ("[here](gone.md#part)", ["link to gone.md#part"]),
        ("![a picture](gone.png)", ["link to gone.png"]),
        ('<img src="gone.png" width="10">', ["link to gone.png"]),
        ("see [it]\n\n[it]: gone.md\n", ["link to gone.md"]),
    ],
)
def test_a_page_that_names_what_is_not_there_is_found(tmp_path: Path, text: str, expected: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert list(faults(page)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`platform-assets run` and `.venv/bin/platform-assets demo generate`", []),
        ("`platform-assets rum`", ["platform-assets rum "]),
        ("`platform-assets demo degenerate`", ["platform-assets demo degenerate"]),
    ],
)
def test_a_page_that_names_an_unknown_command_is_found(tmp_path: Path, text: str, expected: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert list(faults(page)) == expected


@pytest.mark.parametrize(("page", "text"), settings_pages().items())
def test_a_page_of_settings_is_the_one_that_the_code_gives(page: str, text: str) -> None:
    assert (ROOT / page).read_text() == text, "run `make docs`"
