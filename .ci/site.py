"""Build the documentation as a web site in `.site/html`. `make site` runs this script, with zensical installed.

zensical needs all pages in one folder, but the project's pages lie in many folders and link to code. The script
therefore copies the pages and the linked files into `.site/pages`, with the same layout, so that the links stay valid.
Then zensical renders this folder. It fails on warnings, such as a link to a missing page or heading.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / ".site"
PAGES = ("*.md", "docs/**/*.md", "platform_assets/**/*.md")
_LINK = re.compile(r"\]\(<?([^)\s>#]+)")


def main() -> int:
    """Build the site, and return the exit code of zensical."""
    shutil.rmtree(SITE, ignore_errors=True)
    for file in files():
        copy = SITE / "pages" / file.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, copy)
    (SITE / "zensical.toml").write_text(configuration(), encoding="utf-8")
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--config-file", str(SITE / "zensical.toml")]
    code = subprocess.call(command)  # noqa: S603 - fixed arguments
    # zensical leaves out folders whose names begin with a dot, so copy them.
    for folder in (SITE / "pages").glob(".[!.]*"):
        shutil.copytree(folder, SITE / "html" / folder.name, dirs_exist_ok=True)
    return code


def configuration() -> str:
    """Return the text of `zensical.toml`, with the pages of all domains in the navigation."""
    return re.sub(r'"([^"\n]*\*[^"\n]*)"', _entries, (ROOT / "zensical.toml").read_text(encoding="utf-8"))


def _entries(pattern: re.Match[str]) -> str:
    """Return navigation entries for the matching pages. Each title is the heading of the README beside the page."""
    pages = {page: (page.parent / "README.md").read_text(encoding="utf-8") for page in sorted(ROOT.glob(pattern[1]))}
    titles = {page: text.partition("\n")[0].removeprefix("# ") for page, text in pages.items()}
    return ", ".join(f'{{ "{title}" = "{page.relative_to(ROOT)}" }}' for page, title in titles.items())


def files() -> Iterator[Path]:
    """Yield every page, and every file that a page links to. A linked Markdown file counts as a page."""
    found = {page: None for pattern in PAGES for page in sorted(ROOT.glob(pattern))}
    waiting = list(found)
    while waiting:
        file = waiting.pop()
        yield file
        new = [one for one in linked_files(file) if one not in found] if file.suffix == ".md" else []
        found.update(dict.fromkeys(new))
        waiting += new


def linked_files(page: Path) -> Iterator[Path]:
    """Yield the project's files that a page links to."""
    for target in dict.fromkeys(_LINK.findall(page.read_text(encoding="utf-8"))):
        file = (page.parent / target).resolve()
        if file.is_file() and file.is_relative_to(ROOT):
            yield file


if __name__ == "__main__":
    sys.exit(main())
