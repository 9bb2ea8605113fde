"""The documentation site: every page is listed, reference pages are up to date, and all links in the HTML resolve."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets_tests.reference_pages import reference_pages
from platform_assets_tests.requirements import ROOT
from platform_assets_tests.test_docs import PAGES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HTML = ROOT / ".site" / "html"
_LINK = re.compile(r"(?:href|src)=\"?([^\"\s>]+)")
_ID = re.compile(r"\bid=\"?([^\"\s>]+)")


def pages_of(navigation: list[Any]) -> Iterator[str]:
    for entry in navigation:
        if isinstance(entry, str):
            yield entry
        else:
            [value] = entry.values()
            yield from pages_of(value if isinstance(value, list) else [value])


@cache
def ids(page: Path) -> set[str]:
    return set(_ID.findall(page.read_text()))


def broken_links(page: Path) -> list[str]:
    return [target for target in _LINK.findall(page.read_text()) if not is_valid(page, target)]


def is_valid(page: Path, target: str) -> bool:
    if re.match(r"[a-z]+:", target):
        return True
    path, _, anchor = target.partition("#")
    linked = (page.parent / path).resolve() if path else page
    # Anchors that begin with two underscores belong to the theme's scripts.
    return linked.is_file() and (not anchor or anchor.startswith("__") or anchor in ids(linked))


@pytest.mark.requirement("OPS-4")
def test_the_navigation_lists_every_page_once() -> None:
    configuration = runpy.run_path(str(ROOT / ".ci" / "site.py"))["configuration"]()
    listed = list(pages_of(tomllib.loads(configuration)["project"]["nav"]))
    assert len(listed) == len(set(listed))
    example = {page for page in listed if page.startswith("platform_assets_tests/")}
    expected = {str(page.relative_to(ROOT)) for page in (*PAGES, ROOT / "docs" / "requirements.md")}
    assert set(listed) - example == expected


@pytest.mark.requirement("OPS-4")
@pytest.mark.parametrize("page", ["commands", "assets", "http"])
def test_the_reference_pages_are_up_to_date(page: str) -> None:
    path = f"docs/reference/{page}.md"
    assert (ROOT / path).read_text() == reference_pages()[path], "run `make docs`"


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.requirement("OPS-4")
def test_the_site_is_built_without_warnings_and_all_links_resolve() -> None:
    [recipe] = re.findall(r"^site: .*\n\t@(.+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    [uv] = ROOT.glob(".uv/*/bin/uv")
    command = recipe.split()[1:]
    done = subprocess.run(
        [uv, *command[:1], "--python", sys.executable, *command[1:]],
        cwd=ROOT,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    pages = [page for page in HTML.rglob("*.html") if page.name != "404.html"]
    assert len(pages) >= len(PAGES)
    assert {str(page.relative_to(HTML)): broken for page in pages if (broken := broken_links(page))} == {}
