"""The commands `run` and `up` remove old scratch folders when they start. `run` ends with a summary."""

import fcntl
import socket
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import SecretStr
from typer.main import get_command

from platform_assets.base.command_line import Context, out
from platform_assets.base.errors import PlatformError
from platform_assets.operations.commands import commands, quarantine_summary, removed_summary
from platform_assets.operations.run_report import Outcome
from platform_assets.services import Services
from platform_assets.settings import Settings

DEAD, LIVE = "engine-dead", "engine-live"


@dg.asset(check_specs=[dg.AssetCheckSpec(name, asset="loans") for name in ("amount_is_positive", "table_is_large")])
def loans() -> Iterator[Any]:
    """Loans with quarantined rows and two failed checks."""
    for name in ("amount_is_positive", "table_is_large"):
        yield dg.AssetCheckResult(passed=False, check_name=name, severity=dg.AssetCheckSeverity.WARN)
    rules = dg.MetadataValue.json({"amount_is_positive": 12, "every_value_has_its_type": 1})
    yield dg.MaterializeResult(metadata={"quarantined_rows": 12, "quarantined_by_rule": rules, "demo": True})


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A home with the scratch folders of a dead process and of a live process."""
    scratch = tmp_path / "scratch"
    for name in (DEAD, LIVE):
        (scratch / name / "staged").mkdir(parents=True)
    (scratch / f"{DEAD}.owned").touch()
    with (scratch / f"{LIVE}.owned").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield tmp_path


def call(name: str, settings: Settings, assets: list[Any] | None = None) -> str:
    """Run a command in this process and return its output."""
    context = Context(settings, Services, lambda _: None, lambda: dg.Definitions(assets or []), list)
    with out.capture() as captured, closing(context):
        get_command(commands).main(args=[name], obj=context, standalone_mode=False)
    return captured.get()


@pytest.mark.requirement("PLT-10")
def test_run_removes_scratch_folders_of_dead_processes_and_prints_quarantined_rows_by_check(
    home: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_HOME", str(home))
    monkeypatch.setenv("PLATFORM_DATABASE_URL", database_url)
    printed = call("run", Settings(home=home, database_url=SecretStr(database_url)), [loans])
    lines = " ".join(printed.split())
    assert "removed 1 scratch folder of processes that have ended" in lines
    assert [path.name for path in (home / "scratch").iterdir() if path.is_dir()] == [LIVE]
    assert (
        "loans: 12 rows were quarantined, all other rows were published; failed checks: amount_is_positive (12), "
        "every_value_has_its_type (1); demo data contain bad rows on purpose"
    ) in lines
    assert "loans: failed checks: table_is_large" in lines


@pytest.mark.requirement("PLT-10")
def test_up_removes_scratch_folders_of_dead_processes_before_it_starts_servers(home: Path) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        settings = Settings(home=home, dagster_port=port, mlflow_tracking_uri=SecretStr("http://mlflow.invalid"))
        with pytest.raises(PlatformError, match="cannot listen on port"):
            call("up", settings)
    assert [path.name for path in (home / "scratch").iterdir() if path.is_dir()] == [LIVE]


@pytest.mark.parametrize(
    ("count", "checks", "demo", "expected"),
    [
        (
            1,
            {"id_is_unique": 1},
            False,
            "1 row was quarantined, all other rows were published; failed checks: id_is_unique (1)",
        ),
        (
            1_200,
            {"a": 1_000, "b": 200},
            False,
            "1,200 rows were quarantined, all other rows were published; failed checks: a (1,000), b (200)",
        ),
    ],
)
def test_the_quarantine_summary_counts_rows_by_check(
    count: int, checks: dict[str, int], demo: bool, expected: str
) -> None:
    assert quarantine_summary(Outcome("loans", quarantined=count, quarantined_by=checks, demo=demo)) == expected


@pytest.mark.parametrize(
    ("removed", "told"),
    [(3, "3"), ([], "0"), (["a", "b"], "a, b"), ({"loans": 0, "papers": 2}, "papers 2"), ({"loans": 0}, "0")],
)
def test_upkeep_says_what_a_step_removed_and_omits_zero_counts(removed: Any, told: str) -> None:
    assert removed_summary(removed) == told
