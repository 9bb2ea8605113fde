"""The documentation names only things that exist.

These tests check make targets, commands with their options, jobs, assets, variables, modules, files and headings.
`serving/test_serve.py` runs the curl commands, and `integration/test_example_domain.py` runs the Python example of
`docs/tour.md`.
"""

from __future__ import annotations

import re
import shlex
import tomllib
from functools import cache
from itertools import dropwhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
import typer
from typer.core import TyperGroup
from typer.exceptions import TyperException

from platform_assets import domains
from platform_assets.operations.settings_page import settings_pages
from platform_assets.settings import Settings, SettingsGroup, variable
from platform_assets_tests.conftest import REAL_DATA

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
# Skip the page of requirements, because it names commands and settings that do not exist yet.
PAGES = [
    page
    for pattern in ("*.md", "docs/**/*.md", "platform_assets/**/*.md")
    for page in sorted(ROOT.glob(pattern))
    if page != ROOT / "docs" / "requirements.md"
]

TESTED_ELSEWHERE = {"make", "make-secrets", "curl", "deploy", "docker", "uv", "export"}
"""Programs in shell examples whose arguments are not checked here: other tests run them, or they are third-party."""

_SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
_ASSIGNMENT = re.compile(r"[A-Z_]+=")
_HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_BLOCK = re.compile(r"^(```|~~~).*?\n(.*?)^\1|((?:^(?: {4}|\t)[^\n]*\n)+)", re.MULTILINE | re.DOTALL)
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


@cache
def programs() -> dict[str, Any]:
    """Return the command-line parsers of the programs, keyed by program name."""
    from dagster._cli import cli as dagster
    from dagster_dg_cli.cli import cli as dg

    return {"platform-assets": command_line(), "dagster": dagster, "dg": dg}


@cache
def jobs_and_assets() -> tuple[set[str], set[str]]:
    from platform_assets.definitions import defs

    repository = defs().get_repository_def()
    return set(repository.job_names), {key.to_user_string() for key in repository.asset_graph.get_all_asset_keys()}


def variables() -> set[str]:
    kinds: list[type[SettingsGroup]] = [Settings, *domains.settings_classes()]
    return {variable(field) for kind in kinds for field in kind.model_fields} | {REAL_DATA}


def code_in(text: str) -> list[str]:
    """Return the code blocks and code spans of a page."""
    blocks = [fenced or indented for _, fenced, indented in _BLOCK.findall(text)]
    return blocks + [span for _, span in _SPAN.findall(_BLOCK.sub("", text))]


def faults(page: Path) -> Iterator[str]:
    """Yield each invalid command in a page, and each name that the project does not have."""
    text = page.read_text()
    for words in shell_commands(text):
        yield from wrong_command(words)
    for code in code_in(text):
        yield from (f"make {target}" for _, target in _MAKE.findall(code) if target not in make_targets())
        # In containers, `PLATFORM_<NAME>_FILE` can be set to a file that contains the value of `PLATFORM_<NAME>`.
        yield from (name for name in _VARIABLE.findall(code) if name.removesuffix("_FILE") not in variables())
        yield from (name for name in _MODULE.findall(code) if not any(file.endswith(f"/{name}") for file in modules()))
        yield from (f"platform-assets {' '.join(words)}" for words in _COMMAND.findall(code) if not is_command(*words))
    for target in (next(filter(None, groups)) for groups in _LINK.findall(_BLOCK.sub("", text))):
        if not re.match(r"[a-z]+:", target) and not is_link(page, target):
            yield f"link to {target}"


def is_link(page: Path, target: str) -> bool:
    path, _, anchor = target.partition("#")
    linked = page.parent / path if path else page
    return linked.exists() and (not anchor or anchor in anchors(linked))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub generates for the headings of a page."""
    headings = _HEADING.findall(_BLOCK.sub("", page.read_text()))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def shell_commands(text: str) -> Iterator[list[str]]:
    """Yield each command of the shell examples as a list of words, without comments and variable assignments."""
    for block in _SHELL.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            words = list(dropwhile(_ASSIGNMENT.match, shlex.split(line, comments=True)))
            if words:
                yield [words[0].rpartition("/")[2], *words[1:]]


def wrong_command(words: list[str]) -> Iterator[str]:
    """Yield errors of a command: those of the program's own parser, and unknown jobs and assets."""
    if words[0] in TESTED_ELSEWHERE:
        return
    command: Any = programs().get(words[0])
    given = shlex.join(words)
    while words and hasattr(command, "commands"):
        words = words[1:]
        command = command.get_command(click.Context(command), words[0]) if words else None
    if command is None:
        yield given
        return
    try:
        options = command.make_context(words[0], words[1:]).params
    except (click.UsageError, TyperException) as error:
        yield f"{given}: {error}"
        return
    jobs, assets = jobs_and_assets() if words[0] == "launch" else (set(), set())
    if words[0] == "launch" and options["job"] and options["job"] not in jobs:
        yield f"job {options['job']}"
    if words[0] == "launch" and options["assets"] and options["assets"].strip("+*") not in assets:
        yield f"asset {options['assets']}"


def is_command(name: str, second: str) -> bool:
    command = command_line().commands.get(name)
    return second in command.commands if isinstance(command, TyperGroup) and second else command is not None


@pytest.mark.requirement("OPS-4")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_names_only_existing_things(page: Path) -> None:
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
        ("# A `b`, c\n[here](page.md), [there](page.md#a-b-c), [far](https://example.org/x#y), [up](#a-b-c)", []),
        ("[here](gone.md#part)", ["link to gone.md#part"]),
        ("# Part\n[up](#parts)", ["link to #parts"]),
        ("![a picture](gone.png)", ["link to gone.png"]),
        ('<img src="gone.png" width="10">', ["link to gone.png"]),
        ("see [it]\n\n[it]: gone.md\n", ["link to gone.md"]),
        ("    make test\n\nafter an indented block: `make tset`", ["make tset"]),
    ],
)
def test_a_missing_target_variable_module_or_link_is_reported(tmp_path: Path, text: str, expected: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert list(faults(page)) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("`platform-assets run` and `.venv/bin/platform-assets demo generate`", []),
        ("`platform-assets rum`", ["platform-assets rum "]),
        ("`platform-assets demo degenerate`", ["platform-assets demo degenerate"]),
        ("```sh\nX=1 .venv/bin/platform-assets decide \\\n  approve 1 --reason 'Good.' # why\n```", []),
        ("```sh\nexport X=1\ncurl http://x\n.venv/bin/dagster dev\n```", []),
        (
            "```sh\nplatform-assets decide approve\n```",
            ["platform-assets decide approve: Missing parameter: request"],
        ),
        ("```sh\nplatform-assets run --fast\n```", ["platform-assets run --fast: No such option: --fast"]),
        ("```sh\ndagster devel\n```", ["dagster devel"]),
        ("```sh\nrm x\n```", ["rm x"]),
        ("```sh\ndg launch --job upkeep\ndg launch --assets '+credit_risk/loans'\n```", []),
        ("```sh\ndg launch --job upkept\n```", ["job upkept"]),
        ("```sh\ndg launch --assets '+credit_risk/lawns'\n```", ["asset +credit_risk/lawns"]),
    ],
)
def test_a_wrong_command_is_reported(tmp_path: Path, text: str, expected: list[str]) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    assert list(faults(page)) == expected


@pytest.mark.parametrize(("page", "text"), settings_pages().items())
def test_the_settings_pages_are_up_to_date(page: str, text: str) -> None:
    assert (ROOT / page).read_text() == text, "run `make docs`"


@pytest.mark.requirement("OPS-4")
def test_the_architecture_page_lists_the_rooms_in_the_order_of_the_import_layers() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    rows = re.findall(r"^\| (`[^|]*`) \|", (ROOT / "docs" / "architecture.md").read_text(), re.MULTILINE)
    listed = [{name.removesuffix(".py") for name in re.findall(r"`([^`]+)`", row)} for row in rows]
    # The regex skips the page's other table, because its first column has no code spans.
    assert listed == [set(re.findall(r"\w+", layer)) for layer in layers]
