"""Tests of the features: worked examples, comparison with a brute-force implementation, and generated cases."""

from __future__ import annotations

import datetime as dt
import random
from typing import TYPE_CHECKING

import ibis
import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from platform_assets.domains.credit_risk.demo import generate
from platform_assets.domains.credit_risk.features import loan_features, newest_per_client
from platform_assets.domains.credit_risk.schemas import CLIENT_FEATURES, LOAN_FEATURES, LOANS
from platform_assets_tests.domains.credit_risk import brute_force
from platform_assets_tests.domains.credit_risk.brute_force import Loan, Row
from platform_assets_tests.queries import Query

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    import ibis.expr.types as ir

LOAN_SCHEMA = ibis.schema({column.name: column.type for column in LOANS.columns if column.name in Loan._fields})
# Skip Hypothesis's phase `explain`, because it takes minutes: it runs many more examples, each with a query.
LAW = settings(max_examples=40, phases=set(Phase) - {Phase.explain})
PENSIONER = dt.date(3021, 9, 18)
COMPUTE = Query(LOAN_SCHEMA, loan_features)


def table(loans: Iterable[Loan]) -> ir.Table:
    rows = [loan._asdict() for loan in loans]
    return ibis.memtable(pa.Table.from_pylist(rows, schema=LOAN_SCHEMA.to_pyarrow()))


def rows(features: ir.Table) -> list[Row]:
    return sorted(Row(**row) for row in features.to_pyarrow().to_pylist())


def compute(loans: Iterable[Loan]) -> list[Row]:
    return sorted(Row(**row) for row in COMPUTE(loan._asdict() for loan in loans))


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def loan(loan_id: int, loan_date: str, amount: float = 100.0, client: int = 1, car: str = "N", status: int = 0) -> Loan:
    return Loan(loan_id, client, day("1980-06-15"), day("2010-01-01"), day(loan_date), amount, car, status)


@pytest.mark.requirement("CRE-1")
@pytest.mark.parametrize(
    ("loans", "expected"),
    [
        pytest.param(
            [loan(1, "2019-01-10", 100.0), loan(2, "2019-02-10", 200.0), loan(3, "2019-03-10", 900.0)],
            [(1, 0, None), (2, 1, 100.0), (3, 2, 150.0)],
            id="one loan after the other",
        ),
        pytest.param(
            [loan(3, "2019-01-10", 100.0), loan(1, "2019-02-10", 200.0), loan(2, "2019-03-10", 900.0)],
            [(1, 1, 100.0), (2, 2, 150.0), (3, 0, None)],
            id="loans are ordered by date, not by id",
        ),
        pytest.param(
            [loan(9, "2019-01-10", 300.0), loan(4, "2019-01-10", 100.0), loan(7, "2019-01-10", 200.0)],
            [(4, 0, None), (7, 1, 100.0), (9, 2, 150.0)],
            id="loans on the same day are ordered by id",
        ),
        pytest.param(
            [loan(1, "2019-01-10", 100.0, client=1), loan(2, "2019-01-11", 200.0, client=2)],
            [(1, 0, None), (2, 0, None)],
            id="clients do not mix",
        ),
        pytest.param([loan(1, "2019-01-10")], [(1, 0, None)], id="a single loan"),
        pytest.param(
            [loan(1, "2019-01-10", 0.1), loan(2, "2019-01-11", 0.2), loan(3, "2019-01-12"), loan(4, "2019-01-13")],
            [(1, 0, None), (2, 1, 0.1), (3, 2, 0.15), (4, 3, 100.3 / 3)],
            id="fractions of a unit",
        ),
    ],
)
def test_counts_and_averages_cover_exactly_the_previous_loans(
    loans: list[Loan], expected: list[tuple[int, int, float | None]]
) -> None:
    found = [(row.loan_id, row.nb_previous_loans, row.avg_amount_loans_previous) for row in compute(loans)]
    assert found == expected


@pytest.mark.requirement("CRE-1")
@pytest.mark.parametrize(
    ("start", "end", "years"),
    [
        ("1980-06-15", "2019-06-14", 38),
        ("1980-06-15", "2019-06-15", 39),
        ("1980-06-15", "2019-07-01", 39),
        ("1980-06-15", "2019-05-31", 38),
        ("2018-12-31", "2019-01-01", 0),
        ("2019-01-01", "2019-01-01", 0),
        ("1980-02-29", "2019-02-28", 38),
        ("1980-02-29", "2019-03-01", 39),
        ("1980-02-29", "2020-02-28", 39),
        ("1980-02-29", "2020-02-29", 40),
        ("1979-03-01", "2020-02-29", 40),
        ("1980-02-28", "2020-02-29", 40),
        ("1900-01-01", "2019-12-31", 119),
    ],
)
def test_age_and_years_on_the_job_are_completed_calendar_years(start: str, end: str, years: int) -> None:
    (row,) = compute([Loan(1, 1, day(start), day(start), day(end), 100.0, "N")])
    assert (row.age, row.years_on_the_job) == (years, years)


@pytest.mark.requirement("CRE-1")
@pytest.mark.parametrize(
    ("job_start_date", "years"),
    [
        (None, None),
        (PENSIONER, None),
        (day("2019-05-02"), None),
        (day("2019-05-01"), 0),
        (day("2018-05-01"), 1),
        (day("2018-05-02"), 0),
    ],
)
def test_years_on_the_job_are_null_without_a_job_on_the_loan_date(
    job_start_date: dt.date | None, years: int | None
) -> None:
    (row,) = compute([loan(1, "2019-05-01")._replace(job_start_date=job_start_date)])
    assert row.years_on_the_job == years


@pytest.mark.requirement("CRE-1")
def test_car_flag_and_client_id_and_loan_date_and_label_are_copied_from_the_loan() -> None:
    loans = [loan(1, "2019-01-10", client=7, car="Y"), loan(2, "2019-01-11", client=8, car="N", status=1)]
    assert compute(loans) == [
        Row(1, 7, day("2019-01-10"), 0, None, 38, 9, 1, 0),
        Row(2, 8, day("2019-01-11"), 0, None, 38, 9, 0, 1),
    ]


@pytest.mark.requirement("CRE-2")
def test_each_client_gets_the_features_and_date_of_their_newest_loan() -> None:
    loans = [
        loan(5, "2019-03-01", 500.0),
        loan(4, "2019-03-01", 400.0),
        loan(9, "2019-02-01", 900.0),
        loan(2, "2019-01-01", 200.0, client=2, car="Y"),
    ]
    newest = newest_per_client(loan_features(table(loans))).order_by("client_id").to_pyarrow().to_pylist()
    assert [tuple(row.values()) for row in newest] == [
        (1, day("2019-03-01"), 5, 2, 650.0, 38, 9, 0),
        (2, day("2019-01-01"), 2, 0, None, 38, 8 + 1, 1),
    ]


@pytest.mark.requirement("PLT-1")
def test_expressions_have_the_declared_columns_and_types() -> None:
    loans = ibis.table({column.name: column.type for column in LOANS.columns}, name="loans")
    for expression, schema in (
        (loan_features(loans), LOAN_FEATURES),
        (newest_per_client(loan_features(loans)), CLIENT_FEATURES),
    ):
        found = [(name, str(type_)) for name, type_ in expression.schema().items()]
        assert found == [(column.name, column.type) for column in schema.columns]


@pytest.fixture(scope="module")
def demo_loans(tmp_path_factory: pytest.TempPathFactory) -> list[Loan]:
    path = generate(tmp_path_factory.mktemp("demo") / "loans.csv", 20_000)
    return list(brute_force.good_loans(path))


def differing(found: Sequence[Row], wanted: Sequence[Row]) -> list[tuple[Row, Row]]:
    assert len(found) == len(wanted)
    return [(ours, its) for ours, its in zip(found, wanted, strict=True) if not ours.equals(its)][:5]


@pytest.mark.requirement("CRE-1", "CRE-5")
def test_features_of_all_demo_loans_equal_the_brute_force_results(demo_loans: list[Loan]) -> None:
    assert len(demo_loans) > 19_000
    assert differing(compute(demo_loans), brute_force.loan_features(demo_loans)) == []


@pytest.mark.requirement("CRE-2", "CRE-5")
def test_newest_features_of_all_demo_clients_equal_the_brute_force_results(demo_loans: list[Loan]) -> None:
    newest = newest_per_client(loan_features(table(demo_loans))).order_by("client_id").to_pyarrow().to_pylist()
    wanted = brute_force.newest_per_client(compute(demo_loans))
    assert newest == [
        {"client_id": row.client_id, "as_of": row.loan_date}
        | {name: value for name, value in row._asdict().items() if name not in {"client_id", "loan_date", "status"}}
        for row in wanted
    ]


@pytest.mark.real_data
@pytest.mark.requirement("CRE-1", "CRE-5")
def test_features_of_two_thousand_real_clients_equal_the_brute_force_results(real_data: Path) -> None:
    source = ibis.memtable(pq.read_table(real_data / "credit" / "dataset_credit_risk.parquet"))
    typed = source.select(**{name: source[name].cast(type_) for name, type_ in LOAN_SCHEMA.items()}).to_pyarrow()
    loans = ibis.memtable(typed)
    drawn = random.Random(20_260_101).sample(sorted(set(typed["id"].to_pylist())), 2_000)
    of_drawn = loans.filter(loans.id.isin(drawn)).to_pyarrow().to_pylist()
    wanted = brute_force.loan_features(Loan(**row) for row in of_drawn)
    features = loan_features(loans)  # use all loans, because rows of other clients must not change the result
    assert len(wanted) > 30_000
    assert differing(rows(features.filter(features.client_id.isin(drawn))), wanted) == []


@pytest.mark.requirement("CRE-1", "CRE-5")
def test_features_in_a_large_table_do_not_depend_on_later_loans(demo_loans: list[Loan]) -> None:
    # If amounts were summed as floats, later loans could change the last bit of an average, but only in a large table.
    cut = sorted(loan.loan_date for loan in demo_loans)[len(demo_loans) // 2]
    whole = [row for row in compute(demo_loans) if row.loan_date <= cut]
    assert compute(loan for loan in demo_loans if loan.loan_date <= cut) == whole


@pytest.mark.requirement("PLT-7", "CRE-5")
def test_features_in_a_large_table_do_not_depend_on_the_order_of_rows(demo_loans: list[Loan]) -> None:
    shuffled = random.Random(7).sample(demo_loans, len(demo_loans))
    assert compute(shuffled) == compute(demo_loans)


def dates(first: str, last: str) -> st.SearchStrategy[dt.date]:
    return st.dates(day(first), day(last))


@st.composite
def several_loans(draw: st.DrawFn) -> list[Loan]:
    """Draw loans of few clients on few days, so that ties and long histories are common."""
    ids = draw(st.lists(st.integers(1, 1_000), unique=True, min_size=1, max_size=25))
    some = st.builds(
        Loan,
        loan_id=st.just(0),
        id=st.integers(1, 3),
        birthday=dates("1900-01-01", "2000-12-31"),
        job_start_date=st.none() | st.just(PENSIONER) | dates("2001-01-01", "2021-12-31"),
        loan_date=dates("2020-02-27", "2020-03-02"),
        loan_amount=st.floats(0.01, 1e9),
        flag_own_car=st.sampled_from("YN"),
        status=st.integers(0, 1),
    )
    return [draw(some)._replace(loan_id=number) for number in ids]


@pytest.mark.requirement("CRE-1", "CRE-5")
@LAW
@given(several_loans(), several_loans(), st.integers(0, 24))
def test_features_of_a_loan_do_not_depend_on_its_own_amount_or_on_later_loans(
    loans: list[Loan], others: list[Loan], place: int
) -> None:
    ordered = sorted(loans, key=lambda loan: (loan.loan_date, loan.loan_id))
    current = ordered[min(place, len(ordered) - 1)]
    known = [loan for loan in ordered if (loan.loan_date, loan.loan_id) <= (current.loan_date, current.loan_id)]
    later = [loan._replace(loan_id=5_000 + i, loan_date=current.loan_date) for i, loan in enumerate(others)]
    changed = [loan._replace(loan_amount=1.0) if loan is current else loan for loan in known]
    row = {row.loan_id: row for row in compute(ordered)}[current.loan_id]
    for history in (known, known + later, changed):
        assert {row.loan_id: row for row in compute(history)}[current.loan_id] == row


@pytest.mark.requirement("PLT-7", "CRE-5")
@LAW
@given(several_loans(), st.randoms(use_true_random=False))
def test_features_equal_the_brute_force_results_in_any_order_of_rows(loans: list[Loan], chance: random.Random) -> None:
    found = compute(loans)
    assert differing(found, brute_force.loan_features(loans)) == []
    assert compute(chance.sample(loans, len(loans))) == found


@pytest.mark.requirement("PLT-9", "CRE-5")
def test_features_computed_by_postgresql_equal_those_by_duckdb(owner_url: str, demo_loans: list[Loan]) -> None:
    clients = {loan.id for loan in demo_loans[:40]}
    some = [loan for loan in demo_loans if loan.id in clients] + [
        loan(1, "2020-02-29")._replace(job_start_date=None, birthday=day("1980-02-29"))
    ]
    with psycopg.connect(owner_url) as connection:
        postgres = ibis.postgres.from_connection(connection)
        features = loan_features(postgres.create_table("loans", table(some).to_pyarrow()))
        assert differing(rows(features), compute(some)) == []
        newest = newest_per_client(features).order_by("client_id").to_pyarrow().to_pylist()
    wanted = brute_force.newest_per_client(compute(some))
    assert [(row["client_id"], row["loan_id"]) for row in newest] == [(row.client_id, row.loan_id) for row in wanted]
