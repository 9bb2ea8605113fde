"""The sample loans are reproducible and complete, are irregular like the real file, and contain a learnable signal."""

from __future__ import annotations

import csv
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from platform_assets.domains.credit_risk.demo import COLUMNS, FEWEST, generate
from platform_assets.domains.credit_risk.schemas import LOANS
from platform_assets.domains.credit_risk.sources import LOANS as LOANS_SOURCE
from platform_assets.landing.declared_sources import Sources
from platform_assets.settings import Settings
from platform_assets_tests.domains.credit_risk import brute_force

if TYPE_CHECKING:
    from platform_assets_tests.domains.credit_risk.brute_force import Loan, Row

ROWS = 20_000


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return generate(tmp_path_factory.mktemp("demo") / "loans.csv", ROWS)


@pytest.fixture(scope="module")
def lines(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


@pytest.fixture(scope="module")
def good(path: Path) -> list[Loan]:
    return list(brute_force.good_loans(path))


def test_the_same_number_of_rows_and_seed_give_the_same_file(tmp_path: Path, path: Path) -> None:
    assert generate(tmp_path / "again.csv", ROWS).read_bytes() == path.read_bytes()
    assert generate(tmp_path / "other.csv", ROWS, seed=1).read_bytes() != path.read_bytes()


@pytest.mark.parametrize("rows", [1, 2, 100, 1_000, 1_400])
def test_a_file_has_the_requested_number_of_lines(tmp_path: Path, rows: int) -> None:
    path = generate(tmp_path / "new folder" / "loans.csv", rows)
    assert len(path.read_text(encoding="utf-8").splitlines()) == 1 + rows


@pytest.mark.requirement("PLT-3")
def test_a_small_demo_has_enough_loans_to_train_the_model(tmp_path: Path) -> None:
    found = Sources(Settings(home=tmp_path, demo_rows=2_000)).find(LOANS_SOURCE)
    assert len(Path(found.uri).read_text(encoding="utf-8").splitlines()) == 1 + FEWEST


def test_the_file_has_the_documented_columns_and_two_undocumented_columns(lines: list[list[str]]) -> None:
    assert lines[0] == list(COLUMNS)
    assert set(COLUMNS) - {column.name for column in LOANS.columns} == {"days_birth", "days_employed"}
    assert {column.name for column in LOANS.columns} <= set(COLUMNS)


def test_a_failed_write_leaves_no_temporary_file(tmp_path: Path) -> None:
    (tmp_path / "loans.csv").mkdir()
    with pytest.raises(IsADirectoryError):
        generate(tmp_path / "loans.csv", 100)
    assert [entry.name for entry in tmp_path.iterdir()] == ["loans.csv"]


def test_zero_rows_are_rejected(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1 is needed"):
        generate(tmp_path / "loans.csv", 0)


@pytest.mark.requirement("PLT-6")
def test_one_line_in_two_hundred_is_bad_and_each_kind_of_error_occurs(lines: list[list[str]], good: list[Loan]) -> None:
    header, *body = lines
    rows = [dict(zip(header, line, strict=False)) for line in body if len(line) == len(header)]
    found = {
        "a field too many": len(body) - len(rows),
        "negative amount": sum(float(row["loan_amount"]) < 0 for row in rows),
        "unknown flag": sum(row["flag_own_car"] not in {"Y", "N"} for row in rows),
        "no date": sum(row["loan_date"] == "2020-02-31" for row in rows),
        "no client": sum(not row["id"] for row in rows),
        "a loan twice": sum(count - 1 for count in Counter(row["loan_id"] for row in rows).values()),
    }
    assert found == {
        "a field too many": 14,
        "negative amount": 15,
        "unknown flag": 15,
        "no date": 14,
        "no client": 14,
        "a loan twice": 28,
    }
    different = Counter(loan_id for loan_id, _ in {(line[0], tuple(line)) for line in body})
    assert sum(count - 1 for count in different.values()) == 14  # the other 14 repeated lines are exact copies
    assert len(good) == ROWS - 14 - 15 - 15 - 14 - 14 - 14 - 2 * 14


@pytest.mark.requirement("CRE-1")
def test_the_sample_has_the_irregularities_of_the_real_loans(lines: list[list[str]], good: list[Loan]) -> None:
    header, *body = lines
    on_one_day = Counter((loan.id, loan.loan_date) for loan in good)
    per_client = sorted(Counter(loan.id for loan in good).values())
    profiles = {loan.id: (loan.birthday, loan.job_start_date) for loan in good}
    column = {name: [line[i] for line in body] for i, name in enumerate(header)}
    by_date = sorted(good, key=lambda loan: (loan.id, loan.loan_date))
    pensioners = sum(loan.job_start_date is not None and loan.job_start_date.year == 3021 for loan in good)
    assert 0.03 < sum(count for count in on_one_day.values() if count > 1) / len(good) < 0.05
    assert 0.12 < pensioners / len(good) < 0.21
    assert (per_client[0], per_client[-1] <= 61) == (1, True)
    assert 15 <= per_client[len(per_client) // 2] <= 21
    assert 1.2 < len(profiles) / len(set(profiles.values())) < 2
    assert 0.2 < column["occupation_type"].count("") / len(body) < 0.4
    assert max(map(int, column["cnt_children"])) >= 7
    assert any((loan.birthday.month, loan.birthday.day) == (2, 29) for loan in good)
    assert any(a.id == b.id and a.loan_id > b.loan_id for a, b in pairwise(by_date))


def test_the_label_depends_on_each_of_the_five_features(good: list[Loan]) -> None:
    rows = brute_force.loan_features(good)
    bad = [row for row in rows if row.status == 1]
    fine = [row for row in rows if row.status == 0]
    assert 0.07 < len(bad) / len(rows) < 0.09
    for feature, direction in {
        "age": -1,
        "years_on_the_job": -1,
        "flag_own_car": -1,
        "nb_previous_loans": -1,
        "avg_amount_loans_previous": 1,
    }.items():
        assert direction * (_rank(bad, fine, feature) - 0.5) > 0.03, feature


def _rank(bad: list[Row], fine: list[Row], feature: str) -> float:
    """Return the probability that a bad loan has a higher value than a good one; 0.5 for an uninformative feature."""
    values = [(getattr(row, feature), row.status) for row in [*bad, *fine] if getattr(row, feature) is not None]
    below: Counter[float] = Counter(value for value, status in values if status == 0)
    fewer: dict[float, float] = {}
    seen = 0
    for value in sorted({value for value, _ in values}):
        fewer[value] = seen + below[value] / 2
        seen += below[value]
    positives = [value for value, status in values if status == 1]
    return sum(fewer[value] for value in positives) / (len(positives) * seen)
