"""The growth benchmark: measurement of a small size, and computation of exponents from stored measurements."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks import growth
from benchmarks.growth import Point, all_series, exponent, growths, store
from benchmarks.growth_loans import write_loans
from benchmarks.process_costs import Cost

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.requirement("PLT-9")


def costs(work: int, seconds: float, what: str = "land") -> list[Cost]:
    return [Cost(what, work, seconds, seconds / 2, 100.0)]


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_law_is_recovered(power: float) -> None:
    assert exponent([3, 30, 300], [0.2 * size**power for size in (3, 30, 300)]) == pytest.approx(power)


def test_the_exponent_of_noisy_costs_is_a_least_squares_fit() -> None:
    # In base-10 logarithms, the costs are 0, 1 and 1.7 at the sizes 0, 1 and 2. The slope, calculated by hand, is 0.85.
    assert exponent([1, 10, 100], [1, 10, 10**1.7]) == pytest.approx(0.85)
    assert math.isnan(exponent([1], [1]))
    assert math.isnan(exponent([1, 10], [0, 1]))


def test_copied_loans_differ_from_the_originals_only_in_their_ids(tmp_path: Path) -> None:
    write_loans(tmp_path / "loans.csv", 1_400, 2)
    header, *lines = (tmp_path / "loans.csv").read_text().splitlines()
    once, again = ([line.split(",") for line in half] for half in (lines[: len(lines) // 2], lines[len(lines) // 2 :]))
    assert header.startswith("loan_id,id,")
    assert [line[2:] for line in once] == [line[2:] for line in again]
    assert {line[0] for line in once}.isdisjoint(line[0] for line in again)
    assert {line[1] for line in once} & {line[1] for line in again} == {""}


def test_a_small_size_is_measured_in_a_separate_process() -> None:
    [loans] = [series for series in all_series(loans=1_400) if series.name == "loans"]
    point = growth.measure(loans, 1)
    assert [cost.what for cost in point.costs] == ["land", "validate", "commit loans", "features", "commit features"]
    assert all(cost.work == 1_400 and cost.seconds > 0 and cost.cpu_seconds >= 0 for cost in point.costs)


def test_a_new_measurement_of_a_size_replaces_the_old_one_on_the_page(tmp_path: Path) -> None:
    results, page, plot = tmp_path / "growth.json", tmp_path / "scale.md", tmp_path / "growth.png"
    page.write_text(f"before\n{growth.BEGIN}\nold\n{growth.END}\nafter\n")
    for size, seconds in ((615_000, 9.0), (6_150_000, 40.0), (615_000, 2.0)):
        store(Point("loans", size, costs(size, seconds)), results)
    store(Point("zone", 1_000, costs(1, 0.5, "scan")), results)
    growth.report(all_series(), results, page, plot)
    text = page.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| 6,150,000 loans | 20.00 | 40.00 | 3.3 µs | 100 | 1.30 | 1.30 |" in text
    assert "9.00" not in text
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_work_that_grows_with_the_size_is_distinguished_from_work_that_does_not() -> None:
    [series] = [series for series in all_series() if series.name == "zone"]
    points = [
        {"series": "zone", "size": size, "costs": [vars(cost) for cost in costs(size, 1) + costs(20, 1, "page")]}
        for size in (1_000, 10_000)
    ]
    whole, operation = growths([series], {"points": points})
    assert (whole.is_whole, operation.is_whole) == (True, False)


def test_too_little_disk_and_an_unknown_series_are_refused_with_the_fix() -> None:
    with pytest.raises(SystemExit, match="there is no series lans; choose from loans, spark, zone"):
        growth.run(["lans"])
    [loans] = [series for series in all_series() if series.name == "loans"]
    with pytest.raises(SystemExit, match="Loans on DuckDB at 615,000 loans: .* needs .* GB .*; set TMPDIR to a folder"):
        growth.measure(replace(loans, bytes_per_unit=10**15), 1)


def test_the_table_in_the_documentation_matches_the_stored_measurements() -> None:
    stored = growth.read()
    assert growth.table(growths(all_series(), stored), stored["machine"]) in growth.PAGE.read_text()
