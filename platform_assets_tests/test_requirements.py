"""Rules for all tests: known requirement numbers, a clean environment, and a fix in the reason of each skip."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.requirements import ROOT, known_requirements

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

REASONS = {"skip": 0, "skipif": 1, "importorskip": 1, "lacking": 0}
"""Functions and marks that skip a test, with the position of the reason."""
FIX = re.compile(
    r": (?:(?:apt-get|pip|npm) install|docker pull|git fetch) \S"
    r"|: install it from https://"
    r"|: make test EXTRAS=\S"
    r"|: set \S+(?:=| to )\S"
    r"|: run the tests as \S"
)
"""How a reason tells the reader to enable the test: a command to install something, or a setting of the test run."""
WITHOUT_FIX = {
    # `containers.lacking` skips with the reason that it is given. The reasons are those of its callers.
    "{reason}",
    # Not all operating systems have these files.
    "needs /proc, to list the processes that are still running",
    "needs /dev/full, a device that is always full",
    # The other cases of the test run with a lake in a folder.
    "needs a lake that several writers can open; this one is in memory",
}
"""Reasons that cannot name a fix, because the test cannot be enabled on this machine or for this case."""


def skip_reasons(code: str) -> list[str]:
    """Return the reason of each skip in the code of a module; empty if a skip has no reason.

    In f-strings, the code in braces stands for the value. A reason that is not a string is returned as code in braces.
    """
    calls = [node for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Call)]
    found = []
    for call in calls:
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        if name in REASONS:
            given = [one.value for one in call.keywords if one.arg == "reason"] or call.args[REASONS[name] :]
            found.append(text_of(given[0]) if given else "")
    return found


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) for part in node.values)
    if isinstance(node, ast.Constant):
        return str(node.value)
    return f"{{{ast.unparse(node.value if isinstance(node, ast.FormattedValue) else node)}}}"


def run_pytest(folder: Path, *, variables: dict[str, str] | None = None, **modules: str) -> str:
    """Run test modules with this project's `conftest.py` in another process, and return the output.

    Parameters
    ----------
    folder
        Where to write the modules.
    variables
        Additional environment variables.
    modules
        Code of the test modules, keyed by module name.
    """
    for name, code in modules.items():
        (folder / f"test_{name}.py").write_text(f"import os, pytest\n{code}\n")
    rules = ("-c", str(ROOT / "pyproject.toml"), "--rootdir", str(folder), "-p", "platform_assets_tests.conftest")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *rules, str(folder)],
        cwd=ROOT,
        env=os.environ | (variables or {}),
        check=False,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_all_requirements_are_parsed() -> None:
    lines = (ROOT / "docs" / "requirements.md").read_text().splitlines()
    bullets = [line.split()[1] for line in lines if line.startswith("- ")]
    assert list(known_requirements()) == [word for word in bullets if "-" in word]
    assert known_requirements()["PLT-5"].endswith("a blocking check stops what is downstream.")


def test_a_mark_with_an_unknown_requirement_fails_the_collection(tmp_path: Path) -> None:
    printed = run_pytest(
        tmp_path,
        good='@pytest.mark.requirement("PLT-1", "CRE-2")\ndef test_it(): pass',
        unknown='@pytest.mark.requirement("PLT-1", "XYZ-9")\ndef test_it(): pass',
        empty="@pytest.mark.requirement\ndef test_it(): pass",
        misspelt='@pytest.mark.requirment("PLT-1")\ndef test_it(): pass',
    )
    assert "test_unknown.py::test_it: XYZ-9 is not in docs/requirements.md" in printed
    assert "test_empty.py::test_it: the mark names no requirement" in printed
    assert "'requirment' not found in `markers`" in printed
    assert "test_good.py" not in printed
    assert "3 errors" in printed


def test_platform_variables_are_removed_from_the_environment(tmp_path: Path) -> None:
    code = """
def ours(): return [name for name in os.environ if name.startswith(("PLATFORM_", "AWS_", "DAGSTER_HOME"))]
while_collected = ours()
def test_while_collected(): assert while_collected == ["PLATFORM_REAL_DATA"]
def test_while_running(): assert ours() == []
def test_real_data(real_data): assert str(real_data) == os.getcwd()
"""
    variables = {"PLATFORM_HOME": "/x", "PLATFORM_REAL_DATA": str(ROOT), "DAGSTER_HOME": "/x", "AWS_PROFILE": "x"}
    printed = run_pytest(tmp_path, example=code, variables=variables)
    assert "3 passed" in printed, printed


def test_the_reason_of_each_skip_names_a_fix() -> None:
    files = sorted((ROOT / "platform_assets_tests").rglob("*.py"))
    reasons = {reason for file in files for reason in skip_reasons(file.read_text())}
    assert {reason for reason in reasons if not FIX.search(reason)} == WITHOUT_FIX


@pytest.mark.parametrize(
    ("skip", "reason", "names_a_fix"),
    [
        ('pytest.skip(f"needs {name}: apt-get install {name}")', "needs {name}: apt-get install {name}", True),
        ('pytest.importorskip("x", reason="needs x: pip install x")', "needs x: pip install x", True),
        ('pytest.mark.skipif(True, reason=f"needs data: set {DATA} to x")', "needs data: set {DATA} to x", True),
        ('pytest.mark.skip("slow: set SLOW=1")', "slow: set SLOW=1", True),
        ('lacking("needs the extra x: make test EXTRAS=x")', "needs the extra x: make test EXTRAS=x", True),
        ('pytest.skip("needs the extra x")', "needs the extra x", False),
        ('pytest.skip("needs x: apt-get install ")', "needs x: apt-get install ", False),
        ('pytest.skip("needs x: set X")', "needs x: set X", False),
        ("pytest.skip(why)", "{why}", False),
        ('pytest.importorskip("x")', "", False),
    ],
)
def test_a_skip_without_a_fix_is_found(skip: str, reason: str, names_a_fix: bool) -> None:
    assert skip_reasons(f"def test_a():\n    {skip}") == [reason]
    assert (FIX.search(reason) is not None) == names_a_fix


def test_a_skipped_test_is_reported_with_the_reason_and_the_fix(tmp_path: Path) -> None:
    code = "def test_a(browser): pass\ndef test_b(real_data): pass"
    printed = run_pytest(tmp_path, example=code, variables={"PATH": "/nowhere"})
    assert "test_example.py::test_a - Skipped: needs a browser: apt-get install chromium" in printed
    assert "test_example.py::test_b - Skipped: needs the real data sets: set PLATFORM_REAL_DATA" in printed


@pytest.mark.parametrize(("mark", "where"), [("release", ".ci/run"), ("nightly", "the nightly workflow")])
def test_release_and_nightly_tests_are_skipped_by_default(tmp_path: Path, mark: str, where: str) -> None:
    code, variable = f"@pytest.mark.{mark}\ndef test_a(): pass", f"{mark.upper()}_TESTS"
    told = f"test_a - Skipped: {mark} test, which {where} runs: set {variable}=1 to run it here"
    assert told in run_pytest(tmp_path, example=code, variables={variable: ""})
    assert "1 passed" in run_pytest(tmp_path, example=code, variables={variable: "1"})


def test_the_browser_runs_scripts(browser: Browser) -> None:
    page = browser.new_page()
    page.set_content("<title>before</title><script>document.title = 'after'</script>")
    assert page.title() == "after"
