"""A declared source has its address in an environment variable. In demo mode, sample data replace an unset address.

The sample data are written once, and are never used if they are incomplete.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.base.errors import SourceError
from platform_assets.domains.credit_risk.settings import CreditRiskSettings
from platform_assets.landing.archives import Unpacking
from platform_assets.landing.declared_sources import DeclaredSource, Sources
from platform_assets.landing.packed_files import SizeLimit
from platform_assets.landing.sample_data import Demo
from platform_assets.landing.source_files import Source
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

FIELD, SETTING = "credit_loans_uri", "PLATFORM_CREDIT_LOANS_URI"


def settings(home: Path, **more: Any) -> Settings:
    return Settings(home=home, demo_rows=100, **more)


class Generator:
    """Writes sample data and counts the calls of `write`. If `dies` is set, `write` is interrupted after the header."""

    def __init__(self, fewest: int = 1) -> None:
        self.calls = 0
        self.dies = False
        self.fewest = fewest

    @property
    def declared(self) -> DeclaredSource:
        return DeclaredSource(CreditRiskSettings, FIELD, Demo(self.write, ".tar.gz", self.fewest))

    def write(self, path: Path, rows: int) -> Path:
        self.calls += 1
        path.write_text("a,b\n")
        if self.dies:
            raise KeyboardInterrupt
        path.write_text("a,b\n" + "1,2\n" * rows)
        return path


@pytest.mark.requirement("PLT-4")
@pytest.mark.parametrize("sources", ["demo", "live"])
def test_the_variable_of_a_source_takes_precedence_over_sample_data(tmp_path: Path, sources: str) -> None:
    demo = Generator()
    given = CreditRiskSettings(credit_loans_uri="s3://bucket/loans.csv")
    found = Sources(settings(tmp_path, sources=sources), (given,)).find(demo.declared)
    assert found == Source(SETTING, "s3://bucket/loans.csv", demo=False)
    assert demo.calls == 0


@pytest.mark.requirement("PLT-4")
def test_a_live_source_whose_variable_is_not_set_fails_with_the_name_of_the_variable(tmp_path: Path) -> None:
    demo = Generator()
    with pytest.raises(SourceError, match=f"^{SETTING} is not set; .*PLATFORM_SOURCES=demo"):
        Sources(settings(tmp_path, sources="live")).find(demo.declared)
    assert demo.calls == 0
    assert list(tmp_path.iterdir()) == []


@pytest.mark.requirement("PLT-3", "PLT-4")
def test_sample_data_are_generated_once_and_reused(tmp_path: Path) -> None:
    demo = Generator()
    first = Sources(settings(tmp_path)).find(demo.declared)
    again = Sources(settings(tmp_path)).find(demo.declared)
    assert first == again == Source(SETTING, str(tmp_path / "demo" / "credit_loans_100.tar.gz"), demo=True)
    assert demo.calls == 1
    assert (tmp_path / "demo" / "credit_loans_100.tar.gz").read_text().count("\n") == 101
    other = Sources(Settings(home=tmp_path, demo_rows=200)).find(demo.declared)
    assert other.uri == str(tmp_path / "demo" / "credit_loans_200.tar.gz")
    assert [path.name for path in sorted((tmp_path / "demo").iterdir())] == [
        "credit_loans_100.tar.gz",
        "credit_loans_200.tar.gz",
    ]


@pytest.mark.requirement("PLT-3")
def test_sample_data_have_at_least_as_many_rows_as_the_model_needs(tmp_path: Path) -> None:
    needing = Generator(fewest=150)
    for rows, expected in ((100, 150), (200, 200)):
        sources = Sources(Settings(home=tmp_path, demo_rows=rows))
        assert sources.demo_rows(needing.declared) == expected
        assert sources.find(needing.declared).uri.endswith(f"credit_loans_{expected}.tar.gz")


@pytest.mark.requirement("PLT-3")
def test_incomplete_sample_data_are_never_used(tmp_path: Path) -> None:
    demo = Generator()
    demo.dies = True
    with pytest.raises(KeyboardInterrupt):
        Sources(settings(tmp_path)).find(demo.declared)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    demo.dies = False
    found = Sources(settings(tmp_path)).find(demo.declared)
    assert (tmp_path / "demo" / "credit_loans_100.tar.gz").read_text().count("\n") == 101
    assert found.demo


@pytest.mark.requirement("REL-1")
def test_only_archives_are_unpacked_and_the_size_limit_comes_from_the_settings(tmp_path: Path) -> None:
    sources = Sources(settings(tmp_path, archive_max_bytes=7))
    demo = Generator().declared
    assert sources.unpacking(demo) is None
    archive = DeclaredSource(CreditRiskSettings, FIELD, demo.demo, is_archive=True)
    assert sources.unpacking(archive) == Unpacking(7, "PLATFORM_ARCHIVE_MAX_BYTES")


@pytest.mark.requirement("PLT-12")
def test_the_limit_for_compressed_files_comes_from_the_settings(tmp_path: Path) -> None:
    declared = Generator().declared
    for uri in ("loans.csv.gz", ""):
        given = Sources(settings(tmp_path, unpacked_max_bytes=7), (CreditRiskSettings(credit_loans_uri=uri),))
        assert given.find(declared).unpacked == SizeLimit(7, "PLATFORM_UNPACKED_MAX_BYTES")
