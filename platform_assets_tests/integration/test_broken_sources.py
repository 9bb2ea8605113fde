"""A run that fails because of its source, database or disk prints a clear message and keeps the last good tables.

The next successful run updates the tables, except those whose source is unchanged.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
import pytest
from pydantic import SecretStr
from sqlalchemy import make_url

from platform_assets.domains.credit_risk.demo import generate
from platform_assets.settings import Settings
from platform_assets_tests.command_line import OTHER_ROWS, Done, digests, models, platform_assets
from platform_assets_tests.integration import full_disk
from platform_assets_tests.integration.vanishing_database import VanishingDatabase
from platform_assets_tests.ports import reserve_port
from platform_assets_tests.postgres import empty_databases
from platform_assets_tests.small_disk import needs_root

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from platform_assets.database.connections import Database
    from platform_assets_tests.warm import WarmParent

    Rows = list[dict[str, str]]

# These tests share a platform. pytest-xdist runs them in one worker (`--dist loadscope`).
pytestmark = pytest.mark.requirement("PLT-6")

ROWS = 3_000
PASSWORD = "hunter2-of-the-source"
OTHER_SOURCES = ("PLATFORM_SENTENCES_ARCHIVE_URI", "PLATFORM_SPEED_DATA_URI", "PLATFORM_MEMORY_DATA_URI")


@dataclass(frozen=True)
class Platform:
    """A platform after a successful first run; `first`, `tables` and `models` are the results of that run."""

    home: Path
    url: str
    source: Path
    first: Done
    tables: Mapping[str, str | None]
    models: Mapping[int, str]

    def run(self, source: str | Path, *, url: str | None = None, **variables: str) -> Done:
        return run(self.home, url or self.url, source, **variables)

    def fail(self, source: str | Path) -> Done:
        """Run with a broken source of loans. The other domains' sources do not exist, so that they fail fast."""
        return self.run(source, **dict.fromkeys(OTHER_SOURCES, str(self.home / "none")))

    def digests(self) -> Mapping[str, str | None]:
        return digests(settings(self.home, self.url))


@dataclass(frozen=True)
class Troubled:
    """Results of three consecutive runs: one with a broken file, one that loses its database, and a successful one."""

    broken: Done
    vanished: Done
    tables_then: Mapping[str, str | None]
    good: Done


def settings(home: Path, url: str) -> Settings:
    return Settings(home=home, database_url=SecretStr(url))


def run(home: Path, url: str, source: str | Path, **variables: str) -> Done:
    return platform_assets(
        "run",
        PLATFORM_HOME=home,
        PLATFORM_DATABASE_URL=url,
        PLATFORM_CREDIT_LOANS_URI=source,
        PLATFORM_DEMO_ROWS=OTHER_ROWS,
        **variables,
    )


@pytest.fixture(scope="module")
def platform(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    home, source = folder / "home", generate(folder / "loans.csv", ROWS)
    with empty_databases(postgres_server) as url:
        first = run(home, url, source)
        assert first.code == 0, first
        yield Platform(home, url, source, first, digests(settings(home, url)), models(settings(home, url)))


@pytest.fixture(scope="module")
def troubled(platform: Platform, tmp_path_factory: pytest.TempPathFactory) -> Troubled:
    folder = tmp_path_factory.mktemp("troubled")
    nothing, other = folder / "nothing.csv", generate(folder / "other.csv", ROWS, seed=2)
    nothing.touch()
    broken = platform.fail(nothing)
    with VanishingDatabase(platform.url, b"COPY new") as database:
        vanished = platform.run(other, url=database.url)
        assert database.gone.is_set()
    tables_then = platform.digests()
    return Troubled(broken, vanished, tables_then, platform.run(platform.source))


def rows_of(source: Path) -> Rows:
    with source.open(newline="") as lines:
        return [{name: value for name, value in row.items() if name} for row in csv.DictReader(lines)]


def as_csv(rows: Rows, target: Path) -> None:
    with target.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def changed(change: Callable[[int, dict[str, str]], dict[str, str]]) -> Callable[[Path, Path], None]:
    def breaking(good: Path, target: Path) -> None:
        as_csv([change(number, row) for number, row in enumerate(rows_of(good))], target)

    return breaking


def without_amount(_number: int, row: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in row.items() if name != "loan_amount"}


def with_words_for_dates(_number: int, row: dict[str, str]) -> dict[str, str]:
    return row | {"loan_date": "soon"}


def with_one_id(_number: int, row: dict[str, str]) -> dict[str, str]:
    return row | {"loan_id": "7"}


def with_thirty_percent_bad(number: int, row: dict[str, str]) -> dict[str, str]:
    return row | {"loan_amount": "-1"} if number % 10 < 3 else row


def empty(_good: Path, target: Path) -> None:
    target.touch()


def header_alone(good: Path, target: Path) -> None:
    target.write_text(good.read_text().splitlines()[0] + "\n")


def picture(_good: Path, target: Path) -> None:
    target.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 100)


def letter(_good: Path, target: Path) -> None:
    target.write_text("Dear colleagues\n\nWe will send the loans next week.\n")


def truncated_parquet(good: Path, target: Path) -> None:
    pd.DataFrame(rows_of(good)).to_parquet(target)
    target.write_bytes(target.read_bytes()[:-100])


def parquet_with_a_hole(good: Path, target: Path) -> None:
    pd.DataFrame(rows_of(good)).to_parquet(target, compression=None)
    whole = target.read_bytes()
    quarter = len(whole) // 4
    target.write_bytes(whole[:quarter] + bytes(2 * quarter) + whole[3 * quarter :])


def missing(_good: Path, _target: Path) -> None: ...


BREAKAGES = {
    "missing column": (changed(without_amount), ["lacks the columns ['loan_amount']; it has ['loan_id', 'id',"]),
    "duplicate ids": (changed(with_one_id), ["bad_rows_are_within_limit failed: 100.00% of", "loan_id_is_unique"]),
    "30 percent bad rows": (
        changed(with_thirty_percent_bad),
        ["bad_rows_are_within_limit failed: 30.", "loan_amount_is_positive"],
    ),
    "empty file": (empty, ["is empty; it needs a header and rows"]),
    "a picture": (picture, ["is neither parquet nor a CSV file in UTF-8"]),
    "parquet with a hole": (parquet_with_a_hole, ["cannot be read"]),
    "missing file": (missing, ["does not exist; point PLATFORM_CREDIT_LOANS_URI at a file"]),
}
SIMILAR_BREAKAGES = {
    "wrong types in a whole column": (
        changed(with_words_for_dates),
        ["bad_rows_are_within_limit failed: 100.00% of", "the limit is 5.00%", "soon"],
    ),
    "header alone": (header_alone, ["has a header but no rows; it needs at least one row"]),
    "a letter": (letter, ["is not a CSV file with a header of comma-separated names"]),
    "truncated parquet": (truncated_parquet, ["cannot be read: "]),
}
"""Breakages that fail a run in the same way as one of `BREAKAGES`. The tests of `landing` check their messages."""


@pytest.mark.parametrize(
    ("breaking", "words"),
    [
        *(pytest.param(*case, id=name) for name, case in BREAKAGES.items()),
        *(pytest.param(*case, id=name, marks=pytest.mark.nightly) for name, case in SIMILAR_BREAKAGES.items()),
    ],
)
def test_a_run_with_a_broken_file_names_the_defect_and_keeps_the_tables(
    platform: Platform, tmp_path: Path, breaking: Callable[[Path, Path], None], words: list[str]
) -> None:
    source = tmp_path / "loans"
    breaking(platform.source, source)
    done = platform.fail(source)
    assert done.code == 1
    assert [word for word in words if word not in done.out] == []
    assert "FAILED credit_risk/loans" in done.out
    assert "skipped credit_risk/loan_features needs credit_risk/loans" in done.out
    assert "Traceback" not in done.printed
    assert platform.digests() == platform.tables


@pytest.mark.parametrize("address", ["ftp://{}@127.0.0.1:{}/loans.csv", "http://{}@127.0.0.1:{}/loans.csv"])
@pytest.mark.requirement("PLT-8")
def test_a_run_with_an_unreachable_source_fails_without_showing_the_password(platform: Platform, address: str) -> None:
    port = reserve_port()
    done = platform.fail(address.format(f"reader:{PASSWORD}", port))
    assert done.code == 1
    assert f"127.0.0.1:{port}/loans.csv (PLATFORM_CREDIT_LOANS_URI) cannot be fetched: " in done.out
    assert PASSWORD not in done.printed
    assert "Traceback" not in done.printed
    assert platform.digests() == platform.tables


@pytest.mark.slow
@pytest.mark.requirement("PLT-8")
def test_a_run_that_loses_its_database_fails_without_a_traceback(platform: Platform, troubled: Troubled) -> None:
    done = troubled.vanished
    assert done.code == 1
    assert "Traceback" not in done.printed
    assert "ok credit_risk/loan_features" in done.out
    assert "FAILED credit_risk/client_features" in done.out
    assert "PostgreSQL, which stores the run history, became unreachable (" in done.out
    assert "Find the problem with `platform-assets doctor`, fix it, and run again" in done.out
    assert (make_url(platform.url).password or "none") not in done.printed
    assert troubled.tables_then["credit_risk/client_features"] == platform.tables["credit_risk/client_features"]


@pytest.mark.slow
@pytest.mark.requirement("PLT-3", "PLT-7")
def test_a_successful_run_after_failures_restores_the_tables_without_retraining(
    platform: Platform, troubled: Troubled
) -> None:
    assert [done.code for done in (troubled.broken, troubled.vanished, troubled.good)] == [1, 1, 0], troubled
    assert "was marked as failed, because its process has died" in troubled.good.out
    known = "version 1 was trained on the same data by the same code"
    assert [known in done.out for done in (platform.first, troubled.good)] == [False, True]
    assert None not in platform.tables.values()
    assert platform.digests() == platform.tables
    assert models(settings(platform.home, platform.url)) == platform.models
    assert list(platform.models) == [1]


@pytest.mark.requirement("PLT-7")
def test_reproduce_gives_an_identical_version(platform: Platform) -> None:
    done = platform_assets(
        "reproduce", "credit_risk_model", "1", PLATFORM_HOME=platform.home, PLATFORM_DATABASE_URL=platform.url
    )
    assert (done.code, done.err) == (0, "")
    assert "46 holdout metrics: all equal" in done.out
    assert done.out.splitlines()[-1] == "credit_risk_model version 1 is reproduced"


@pytest.mark.slow
@needs_root
def test_a_run_on_a_full_disk_fails_and_succeeds_after_space_is_freed(
    platform: Platform, warm: WarmParent, database_url: str, tmp_path: Path
) -> None:
    lake = tmp_path / "lake"
    lake.mkdir()
    other = generate(tmp_path / "other.csv", ROWS, seed=2)
    variables = {
        "PLATFORM_HOME": str(tmp_path / "home"),
        "PLATFORM_DATABASE_URL": database_url,
        "PLATFORM_DEMO_ROWS": str(OTHER_ROWS),
    }
    with warm.start(full_disk.main, lake, platform.source, other, variables=variables) as process:
        found = json.loads(process.stdout.read())
        assert process.wait() == 0
    assert found["codes"] == [0, 1, 0], found
    assert f"no space left on {lake}; free some space and run again" in found["printed"]
    assert "Traceback" not in found["printed"]
    assert found["unchanged"]
    assert found["recovered"]
