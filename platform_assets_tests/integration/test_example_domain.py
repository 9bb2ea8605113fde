"""A domain can be added without editing existing files. The test adds the example domain to a copy of the project.

The example is in `example_domain`, and `docs/add-a-domain.md` explains it step by step.
"""

from __future__ import annotations

import filecmp
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import requests

from platform_assets.domains.credit_risk.demo import generate
from platform_assets_tests.command_line import PROGRAM
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import copy_home, wait_until, wait_until_stopped
from platform_assets_tests.requirements import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

EXAMPLE = Path(__file__).with_name("example_domain")
PAGE = ROOT / "docs" / "add-a-domain.md"
# Folders of the example, and the folders of the project to which they are copied.
ADDED = {"stocks": "platform_assets/domains/stocks", "stocks_tests": "platform_assets_tests/domains/stocks"}
HIDDEN = (".ci", ".github")
"""Hidden folders to copy. All other hidden folders are created by tools."""
TABLES_AND_MODEL = ("stocks/prices", "stocks/price_features", "stocks/newest_features", "stocks/stocks_model")
VARIABLE = "PLATFORM_STOCKS_PRICES_URI"
# Numbers of demo rows and loans. With fewer, some models cannot be trained, or the example fails its quality gate.
ROWS, LOANS = 400, 3_200
# Tests that automatically cover every domain.
OF_ALL_DOMAINS = (
    *("test_house_rules.py", "test_definitions.py", "test_settings.py", "test_docs.py", "test_imports.py"),
    *(
        "test_app.py::test_the_openapi_schema_and_the_docs_page_list_all_routes",
        "operations/test_doctor.py",
        "database/test_opening.py",
    ),
)
MANY_FILES = 300
TOUR = ROOT / "docs" / "tour.md"
PYTHON_BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
SETTINGS_PAGES = """
from platform_assets.operations.settings_page import settings_pages

print(settings_pages()["platform_assets/domains/stocks/settings.md"], end="")
"""


@dataclass(frozen=True)
class Copy:
    """A copy of the project with the example domain, and its own `PLATFORM_HOME`."""

    root: Path
    home: Path

    @property
    def environment(self) -> dict[str, str]:
        own = {"PYTHONPATH": str(self.root), "PLATFORM_HOME": str(self.home), "PLATFORM_DEMO_ROWS": str(ROWS)}
        # Remove pytest's variables, because the tests in the copy would otherwise share a temporary folder with other
        # pytest sessions.
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        return inherited | own

    def run(self, *command: str | Path, **variables: str) -> str:
        """Run a command in the project's folder, check that it succeeds, and return its output."""
        done = subprocess.run(
            [*map(str, command)],
            cwd=self.root,
            env=self.environment | variables,
            check=False,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}"
        return done.stdout


@dataclass(frozen=True)
class Found:
    """Results from the copy: each command's output by name, and the service's responses by path."""

    copy: Copy
    printed: dict[str, str]
    answers: dict[str, requests.Response]


@pytest.fixture(scope="module")
def found(migrated_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    """Use all parts of the new domain. The `PLATFORM_HOME` folder was created before the domain was added."""
    folder = tmp_path_factory.mktemp("example_domain")
    copy = Copy(copy_of_the_project(folder / "project"), folder / "home")
    copy_home(migrated_home, copy.home)
    loans = generate(folder / "loans.csv", LOANS)
    printed = {"run": copy.run(PROGRAM, "run", PLATFORM_CREDIT_LOANS_URI=str(loans))}
    tests = [f"platform_assets_tests/{name}" for name in (*OF_ALL_DOMAINS, "domains/stocks")]
    commands: dict[str, tuple[str | Path, ...]] = {
        "tests": (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests),
        "dg": (beside("dg"), "check", "defs"),
        "migrate": (PROGRAM, "migrate"),
        "doctor": (PROGRAM, "doctor"),
        "tour": (sys.executable, "-c", "\n".join(PYTHON_BLOCK.findall(TOUR.read_text()))),
        "newest": (PROGRAM, "stocks", "newest", "AAA"),
        "settings": (sys.executable, "-c", SETTINGS_PAGES),
        "ruff": (beside("ruff"), "check", "--no-cache", *ADDED.values()),
        "format": (beside("ruff"), "format", "--no-cache", "--check", *ADDED.values()),
        # Reuse mypy's cache of the other files, which saves nine tenths of the time.
        "types": (beside("mypy"), "--cache-dir", ROOT / ".mypy_cache", *ADDED.values()),
        "layers": (beside("lint-imports"), "--no-cache"),
    }
    with served(copy) as address:
        answers = {path: requests.get(address + path, timeout=60) for path in ("/features/stocks/AAA", "/openapi.json")}
        path = "/predictions/stocks"
        answers[path] = requests.post(address + path, json={"symbol": "AAA"}, timeout=60)
        # Run two commands at once, because each spends most of its time importing libraries.
        with ThreadPoolExecutor(2) as threads:
            printed |= zip(commands, threads.map(lambda command: copy.run(*command), commands.values()), strict=True)
    yield Found(copy, printed, answers)
    wait_until_stopped(copy.home)


def copy_of_the_project(root: Path) -> Path:
    root.mkdir()
    for source in ROOT.iterdir():
        if not source.name.startswith(".") or source.name in HIDDEN:
            # Copy the compiled Python files as well, because this saves seconds in each command.
            (shutil.copytree if source.is_dir() else shutil.copy2)(source, root / source.name)
    for name, place in ADDED.items():
        shutil.copytree(EXAMPLE / name, root / place)
    return root


def beside(program: str) -> Path:
    """Return the path of a program in this Python environment."""
    return Path(sys.executable).with_name(program)


@contextmanager
def served(copy: Copy) -> Iterator[str]:
    """Run the HTTP service of a copy, and yield its address."""
    port = reserve_port()
    address = f"http://127.0.0.1:{port}"
    log = copy.root.with_name("serve.txt")
    with (
        log.open("w") as output,
        subprocess.Popen(
            [PROGRAM, "serve"],
            cwd=copy.root,
            env=copy.environment | {"PLATFORM_SERVICE_PORT": str(port)},
            stdout=output,
            stderr=output,
        ) as service,
    ):

        def answers() -> bool:
            assert service.poll() is None, log.read_text()
            try:
                return requests.get(f"{address}/health/live", timeout=10).ok
            except requests.ConnectionError:
                return False

        try:
            wait_until(answers, "the service answered")
            yield address
        finally:
            service.terminate()


def files(root: Path) -> list[Path]:
    """Return the files below a folder, without compiled Python files."""
    return [path for path in sorted(root.rglob("*")) if path.is_file() and "__pycache__" not in path.parts]


def sections(page: str) -> list[tuple[str, list[str]]]:
    """Return a pair for each heading of the page: the file that it names, and the Python blocks below it."""
    parts = re.split(r"^## ", page, flags=re.MULTILINE)[1:]
    named = [(re.findall(r"`([^`]+)`", part.partition("\n")[0]), part) for part in parts]
    return [(names[0], PYTHON_BLOCK.findall(part)) for names, part in named if names]


@pytest.mark.release
@pytest.mark.slow
@pytest.mark.requirement("PLT-13")
class TestTheExample:
    def test_the_run_materialises_the_tables_and_the_model(self, found: Found) -> None:
        printed = found.printed["run"]
        assert [asset for asset in TABLES_AND_MODEL if not re.search(rf"│ {asset} +│ ok ", printed)] == []
        assert "stocks/prices: the bad rows, with line and reason, are in stocks/prices_quarantine" in printed
        assert "stocks/stocks_model: quality gate passed" in printed

    def test_the_python_code_on_the_tour_page_works(self, found: Found) -> None:
        assert "Error" not in found.printed["tour"]
        assert "never awaited" not in found.printed["tour"]

    def test_the_migration_runs_when_the_server_starts(self, found: Found) -> None:
        assert found.printed["migrate"] == "all databases are up to date\n"

    def test_the_service_returns_the_features(self, found: Found) -> None:
        answer = found.answers["/features/stocks/AAA"]
        assert answer.status_code == 200, answer.text
        assert set(answer.json()) == {"symbol", "as_of", "return_1d", "return_3d", "volume_ratio"}

    def test_the_service_refuses_predictions_before_an_approval(self, found: Found) -> None:
        answer = found.answers["/predictions/stocks"]
        problem: dict[str, Any] = answer.json()
        assert answer.status_code == 503, answer.text
        assert problem["type"].endswith("no-champion")
        assert "stocks_model" in problem["detail"]

    def test_the_routes_are_in_the_openapi_schema(self, found: Found) -> None:
        paths = found.answers["/openapi.json"].json()["paths"]
        assert set(paths) >= {"/features/stocks/{symbol}", "/predictions/stocks"}

    def test_doctor_and_the_settings_page_list_the_source_variable(self, found: Found) -> None:
        assert f"ok {VARIABLE}: not set: {ROWS} rows of demo data" in found.printed["doctor"]
        assert found.printed["settings"] == (EXAMPLE / "stocks" / "settings.md").read_text()
        assert VARIABLE in found.printed["settings"]

    def test_the_command_prints_the_newest_features(self, found: Found) -> None:
        as_of = found.answers["/features/stocks/AAA"].json()["as_of"]
        assert re.search(rf"│ as_of +│ {as_of} +│", found.printed["newest"])

    def test_dagster_accepts_the_definitions(self, found: Found) -> None:
        assert "All definitions loaded successfully" in found.printed["dg"]

    def test_the_tests_of_the_example_and_of_all_domains_pass(self, found: Found) -> None:
        assert re.search(r"^\d+ passed", found.printed["tests"], re.MULTILINE)

    def test_no_other_file_is_edited(self, found: Found) -> None:
        added = {found.copy.root / place for place in ADDED.values()}
        rest = [path for path in files(found.copy.root) if not added & set(path.parents)]
        originals = [ROOT / path.relative_to(found.copy.root) for path in rest]
        assert len(rest) > MANY_FILES
        assert [path for path, own in zip(rest, originals, strict=True) if not own.is_file()] == []
        assert [path for path, own in zip(rest, originals, strict=True) if not filecmp.cmp(path, own, False)] == []


@pytest.mark.requirement("PLT-13")
def test_the_documentation_quotes_every_file_of_the_example() -> None:
    quoted = sections(PAGE.read_text())
    texts = {name: (EXAMPLE / name).read_text() for name, _ in quoted}
    wrong = [f"{name}:\n{block}" for name, blocks in quoted for block in blocks if block not in texts[name]]
    assert "\n\n".join(wrong) == ""
    # The page must quote every Python file that is not empty.
    written = {str(path.relative_to(EXAMPLE)) for path in EXAMPLE.rglob("*.py") if path.stat().st_size}
    assert set(texts) == written | {"stocks/README.md"}
    assert sum(len(blocks) for _, blocks in quoted) >= len(texts) - 2


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("## 1. [`a.py`](a.py)\n\n```python\nx = 1\n```\n", [("a.py", ["x = 1\n"])]),
        ("## `a`\n```python\nx\n```\n```python\ny\n```\n## `b`\n", [("a", ["x\n", "y\n"]), ("b", [])]),
        ("## No file\n\n```sh\nx\n```\n", []),
    ],
)
def test_sections_returns_the_quoted_blocks_of_each_file(page: str, expected: list[tuple[str, list[str]]]) -> None:
    assert sections(page) == expected
