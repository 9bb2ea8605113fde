"""Tests of the two assets with sample data and with unusual files, in runs of the real Dagster definitions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from platform_assets.base.errors import SourceError
from platform_assets.definitions import resources
from platform_assets.domains.optimisation import demo as hotels
from platform_assets.domains.optimisation.defs import compact_table, distances
from platform_assets.domains.optimisation.distance import distance
from platform_assets.domains.optimisation.settings import OptimisationSettings
from platform_assets.domains.optimisation.sources import read_compact, read_distances
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Run = Callable[..., "Outcome"]

HOTEL = "ean_hotel_id,name,address1,city,state_province,postal_code,latitude,longitude,star_rating,high_rate,low_rate\n"


class Outcome:
    """Results of a materialisation."""

    def __init__(self, services: Services, result: dg.ExecuteInProcessResult) -> None:
        self.services = services
        self.success = result.success
        self.checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
        events = [event for event in result.all_events if event.is_step_materialization]
        self.metadata: dict[str, Any] = {
            name: value.value for event in events for name, value in event.materialization.metadata.items()
        }
        self.failures = [str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure]

    def table(self, name: str) -> pd.DataFrame:
        return self.services.tables.read(f"optimisation/{name}")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    opened: list[Services] = []

    def materialise(asset: dg.AssetsDefinition, max_bad_rows: float = 0.05, **sources: str) -> Outcome:
        home, lake = tmp_path / "home", str(tmp_path / "lake")
        settings = Settings(home=home, lake_uri=lake, demo_rows=1_000, max_bad_rows=max_bad_rows)
        services = Services(settings, (OptimisationSettings(**sources),))
        opened.append(services)
        with empty_instance() as instance:
            given = resources(lambda: services)
            result = dg.materialize([asset], resources=given, instance=instance, raise_on_error=False)
            return Outcome(services, result)

    yield materialise
    for services in opened:
        services.close()


@pytest.mark.requirement("OPT-1")
def test_every_readable_row_gets_its_distance(run: Run, tmp_path: Path) -> None:
    outcome = run(distances)
    assert outcome.success
    source = pd.read_csv(next((tmp_path / "home" / "demo").glob("speed*")), on_bad_lines="skip")
    latitude = pd.to_numeric(source.latitude, errors="coerce")
    kept = source.latitude != "unknown"
    expected = distance(latitude[kept], source.longitude[kept])
    table = outcome.table("distances").sort_values("row", ignore_index=True)
    assert list(table.columns) == ["row", "latitude", "longitude", "distance"]
    assert np.array_equal(table.distance, expected, equal_nan=True)
    assert np.array_equal(table.latitude, latitude[kept], equal_nan=True)
    assert table.distance.isna().sum() == 2
    assert outcome.metadata["demo"] is True


@pytest.mark.requirement("OPT-1", "PLT-6")
def test_rows_with_invalid_coordinates_are_quarantined_and_the_others_published(run: Run) -> None:
    outcome = run(distances)
    bad = outcome.table("distances_quarantine")
    assert sorted(bad.broken_rules.value_counts().items()) == [("latitude_is_a_number", 2), ("line_is_readable", 1)]
    assert "unknown" in "".join(bad.source_row)
    assert len(outcome.table("distances")) == 1_000 - 3


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_a_row_with_a_missing_coordinate_has_no_distance(run: Run, tmp_path: Path, form: str) -> None:
    frame = pd.DataFrame({"Latitude": [0.0, 1.5, None, 4e5], "LONGITUDE": [0.0, None, 3.0, -7.25], "distance": "mine"})
    path = tmp_path / f"angles.{form}"
    frame.to_parquet(path) if form == "parquet" else frame.to_csv(path, index=False)
    table = run(distances, speed_data_uri=str(path)).table("distances").sort_values("row")
    assert table["row"].tolist() == ([1, 2, 3, 4] if form == "parquet" else [2, 3, 4, 5])
    assert table.distance.isna().tolist() == [False, True, True, False]
    assert table.distance.iloc[3] == float(distance(4e5, -7.25))


def test_the_error_for_missing_coordinate_columns_names_the_source(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "no_angles.csv"
    path.write_text("latitude,height\n1,2\n")
    (failure,) = run(distances, speed_data_uri=str(path)).failures
    assert "no_angles.csv (PLATFORM_SPEED_DATA_URI) lacks the columns ['longitude']" in failure


@pytest.mark.requirement("OPT-2")
def test_the_compact_table_has_the_values_of_the_file(run: Run, tmp_path: Path) -> None:
    outcome = run(compact_table)
    assert outcome.success
    (path,) = (tmp_path / "home" / "demo").glob("memory*")
    expected = pd.read_csv(path, encoding="cp1252", on_bad_lines="skip", dtype={"postal_code": str})
    table = outcome.table("compact_table").sort_values("row", ignore_index=True)
    pd.testing.assert_frame_equal(table.drop(columns="row"), expected, check_exact=True, check_dtype=False)
    lines = path.read_text(encoding="cp1252").splitlines()
    assert all(
        lines[row - 1].startswith(f"{hotel},") for row, hotel in zip(table["row"], table.ean_hotel_id, strict=True)
    )


@pytest.mark.requirement("OPT-2", "PLT-1")
def test_the_metadata_show_the_encoding_and_the_columns_and_compare_sizes(run: Run) -> None:
    metadata = run(compact_table).metadata
    assert metadata["encoding"] == "cp1252"
    assert "| latitude " in metadata["columns"]
    assert metadata["competitors"].startswith("![memory in MB](data:image/png;base64,")
    sizes = metadata["bytes_by_way"]
    assert min(sizes, key=sizes.get) == "this platform"


@pytest.mark.requirement("PLT-6")
def test_unreadable_lines_are_quarantined_with_their_line_numbers(run: Run, tmp_path: Path) -> None:
    good = '7,Inn,1 Main St,"Ash\nford",NY,10000,44.5,-73.5,,10.5,9.5\n'
    path = tmp_path / "hotels.csv"
    path.write_text(HOTEL + good + "1,2,3\n" + good.replace("44.5", "99") + good + good, encoding="cp1252")
    outcome = run(compact_table, memory_data_uri=str(path), max_bad_rows=0.9)
    assert outcome.table("compact_table")["row"].tolist() == [2, 7, 9]
    bad = outcome.table("compact_table_quarantine").sort_values("source_line", ignore_index=True)
    assert bad.source_line.tolist() == [4, 5]
    assert bad.broken_rules.tolist() == ["line_is_readable", "latitude_is_within_bounds"]
    assert bad.source_row[0] == "1,2,3"
    assert bad.source_error[0] == "it has 3 fields; the header has 11"


@pytest.mark.requirement("PLT-12")
def test_a_guessed_encoding_is_reported_and_a_declared_one_is_used(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "hotels.csv"
    path.write_text(HOTEL + "7,Hôtel Łódź,1 Main St,Ashford,NY,10000,44.5,-73.5,,10.5,9.5\n", encoding="cp1250")
    guessed = run(compact_table, memory_data_uri=str(path))
    assert guessed.table("compact_table")["name"].tolist() == ["Hôtel £ódŸ"]
    [remark] = guessed.metadata["source_remarks"]
    assert remark.startswith("its text encoding was detected as cp1252.")
    assert "set PLATFORM_MEMORY_DATA_ENCODING" in remark
    declared = run(compact_table, memory_data_uri=str(path), memory_data_encoding="cp1250")
    assert declared.table("compact_table")["name"].tolist() == ["Hôtel Łódź"]
    assert not declared.metadata.get("source_remarks")
    [failure] = run(compact_table, memory_data_uri=str(path), memory_data_encoding="ascii").failures
    assert "cannot be read as ascii" in failure
    with pytest.raises(ValidationError, match="a text encoding that Python knows, for example utf-8"):
        OptimisationSettings(memory_data_encoding="cp9999")


def test_a_parquet_file_is_accepted(run: Run, tmp_path: Path) -> None:
    frame = pd.read_csv(hotels.generate(tmp_path / "h.csv", 100), encoding="cp1252", dtype={"postal_code": str})
    frame.to_parquet(tmp_path / "h.parquet")
    outcome = run(compact_table, memory_data_uri=str(tmp_path / "h.parquet"))
    assert sorted(outcome.table("compact_table")["row"]) == list(range(1, 101))
    assert outcome.metadata["encoding"] == "parquet"


@pytest.mark.parametrize("read", [read_compact, read_distances])
def test_a_failed_read_leaves_no_files_and_its_error_names_the_source(tmp_path: Path, read: Callable[..., Any]) -> None:
    path = tmp_path / "broken.csv"
    path.write_bytes(b"PAR1 and nothing more")
    given = OptimisationSettings(memory_data_uri=str(path), speed_data_uri=str(path))
    services = Services(Settings(home=tmp_path / "home"), (given,))
    with pytest.raises(SourceError, match=r"broken\.csv \(PLATFORM_"):
        read(services.sources, services.engine)
    assert [found for found in services.scratch.rglob("*") if found.is_file() and found.name == "file"] == []
    services.close()
