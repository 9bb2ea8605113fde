"""Tests that each expectation on the credit-risk tables detects the errors it is meant for, and no others."""

from __future__ import annotations

import datetime as dt
from collections import Counter
from typing import TYPE_CHECKING, Any

import ibis
import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from platform_assets.domains.credit_risk.features import loan_features
from platform_assets.domains.credit_risk.schemas import (
    CLIENT_FEATURES,
    FIRST_BIRTHDAY,
    FIRST_LOAN,
    HIGHEST_AMOUNT,
    LAST_DATE,
    LOAN_FEATURES,
    LOANS,
)
from platform_assets.engine.query_engine import as_frame
from platform_assets.lake.judgements import judge
from platform_assets_tests.queries import Query

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from platform_assets.lake.schemas import TableSchema

GOOD_LOAN = {
    "loan_id": 1,
    "id": 10,
    "code_gender": "F",
    "flag_own_car": "N",
    "flag_own_realty": "Y",
    "cnt_children": 0,
    "amt_income_total": 45_000.0,
    "name_income_type": "Working",
    "name_education_type": "Higher education",
    "name_family_status": "Married",
    "name_housing_type": "House / apartment",
    "flag_mobil": 1,
    "flag_work_phone": 0,
    "flag_phone": 0,
    "flag_email": 0,
    "occupation_type": "Managers",
    "cnt_fam_members": 2.0,
    "status": 0,
    "birthday": dt.date(1980, 6, 15),
    "job_start_date": dt.date(2010, 1, 1),
    "loan_date": dt.date(2019, 1, 10),
    "loan_amount": 100.0,
}
GOOD_FEATURES = {
    "loan_id": 1,
    "client_id": 10,
    "loan_date": dt.date(2019, 1, 10),
    "nb_previous_loans": 1,
    "avg_amount_loans_previous": 100.0,
    "age": 38,
    "years_on_the_job": 9,
    "flag_own_car": 0,
    "status": 0,
}
GOOD_CLIENT = {name: value for name, value in GOOD_FEATURES.items() if name not in {"loan_date", "status"}} | {
    "as_of": dt.date(2019, 1, 10)
}
AVERAGE = "avg_amount_loans_previous"


ODD_LOANS: list[dict[str, Any]] = [
    {},
    {"job_start_date": dt.date(3021, 9, 18)},
    {"job_start_date": None},
    {"job_start_date": dt.date(2020, 1, 1)},
    {"occupation_type": None, "amt_income_total": None, "flag_phone": None, "code_gender": None},
    {"loan_date": FIRST_LOAN},
    {"loan_date": LAST_DATE},
    {"birthday": FIRST_BIRTHDAY},
    {"loan_amount": HIGHEST_AMOUNT},
]
WRONG_LOANS: list[tuple[dict[str, Any], str]] = [
    ({"loan_id": None}, "loan_id_is_present"),
    ({"id": None}, "id_is_present"),
    ({"birthday": None}, "birthday_is_present"),
    ({"loan_date": None}, "loan_date_is_present"),
    ({"loan_amount": None}, "loan_amount_is_present"),
    ({"flag_own_car": None}, "flag_own_car_is_present"),
    ({"status": None}, "status_is_present"),
    ({"loan_date": dt.date(1989, 12, 31)}, "loan_date_is_within_bounds"),
    ({"loan_date": dt.date(2101, 1, 1)}, "loan_date_is_within_bounds"),
    ({"birthday": dt.date(1899, 12, 31)}, "birthday_is_within_bounds"),
    ({"birthday": dt.date(2019, 1, 10), "job_start_date": None}, "loan_date_is_after_birthday"),
    ({"job_start_date": dt.date(1980, 6, 15)}, "job_start_date_is_after_birthday"),
    ({"loan_amount": 0.0}, "loan_amount_is_positive"),
    ({"loan_amount": -100.0}, "loan_amount_is_positive"),
    ({"loan_amount": float("inf")}, "loan_amount_is_positive"),
    ({"amt_income_total": -1.0}, "amt_income_total_is_positive"),
    ({"code_gender": "X"}, "code_gender_is_a_known_value"),
    ({"flag_own_car": "?"}, "flag_own_car_is_a_known_value"),
    ({"flag_own_realty": "y"}, "flag_own_realty_is_a_known_value"),
    ({"flag_mobil": 2}, "flag_mobil_is_a_known_value"),
    ({"flag_work_phone": -1}, "flag_work_phone_is_a_known_value"),
    ({"flag_phone": 2}, "flag_phone_is_a_known_value"),
    ({"flag_email": 2}, "flag_email_is_a_known_value"),
    ({"status": 2}, "status_is_a_known_value"),
]
ODD_FEATURES: list[dict[str, Any]] = [{}, {"nb_previous_loans": 0, AVERAGE: None, "years_on_the_job": None}]
WRONG_FEATURES: list[tuple[dict[str, Any], str]] = [
    ({"client_id": None}, "client_id_is_present"),
    ({"nb_previous_loans": None, AVERAGE: None}, "nb_previous_loans_is_present"),
    ({"nb_previous_loans": -1}, "nb_previous_loans_is_not_negative"),
    ({"nb_previous_loans": 0}, f"{AVERAGE}_is_null_when_nb_previous_loans_is_0"),
    ({AVERAGE: None}, f"{AVERAGE}_is_present_unless_nb_previous_loans_is_0"),
    ({AVERAGE: -0.1}, f"{AVERAGE}_is_within_bounds"),
    ({"age": None}, "age_is_present"),
    ({"age": -1, "years_on_the_job": None}, "age_is_within_bounds"),
    ({"age": 201}, "age_is_within_bounds"),
    ({"years_on_the_job": -1_003}, "years_on_the_job_is_within_bounds"),
    ({"years_on_the_job": 39}, "age_is_at_least_years_on_the_job"),
    ({"flag_own_car": None}, "flag_own_car_is_present"),
    ({"flag_own_car": 2}, "flag_own_car_is_a_known_value"),
]
WRONG_LOAN_FEATURES = [
    *WRONG_FEATURES,
    ({"loan_id": None}, "loan_id_is_present"),
    ({"loan_date": dt.date(1989, 12, 31)}, "loan_date_is_within_bounds"),
    ({"status": 2}, "status_is_a_known_value"),
]
WRONG_CLIENT_FEATURES = [*WRONG_FEATURES, ({"as_of": dt.date(1989, 12, 31)}, "as_of_is_within_bounds")]

TABLES = [
    pytest.param(LOANS, GOOD_LOAN, ODD_LOANS, WRONG_LOANS, id="loans"),
    pytest.param(LOAN_FEATURES, GOOD_FEATURES, ODD_FEATURES, WRONG_LOAN_FEATURES, id="loan_features"),
    pytest.param(CLIENT_FEATURES, GOOD_CLIENT, ODD_FEATURES, WRONG_CLIENT_FEATURES, id="client_features"),
]


def types(schema: TableSchema) -> ibis.Schema:
    return ibis.schema({column.name: column.type for column in schema.columns})


def table(schema: TableSchema, rows: list[dict[str, Any]]) -> ir.Table:
    return ibis.memtable(pa.Table.from_pylist(rows, schema=types(schema).to_pyarrow()))


def numbered(row: dict[str, Any], changes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Apply each change to a copy of the row. The copies get unique ids unless the change sets the ids."""
    own = [{name: number for name in ("loan_id", "client_id") if name in row} for number in range(1, len(changes) + 1)]
    return [row | ids | change for ids, change in zip(own, changes, strict=True)]


def breaks(schema: TableSchema, rows: ir.Table) -> ir.Table:
    """Return one boolean column per row rule: true if the row breaks the rule."""
    return rows.select(**{rule.name: ~rule.holds(rows).fill_null(True) for rule in schema.expectations if rule.holds})


def broken_rules(schema: TableSchema, rows: ir.Table) -> list[set[str]]:
    """Return the names of the row rules that each row breaks."""
    return [{name for name, broken in row.items() if broken} for row in breaks(schema, rows).to_pyarrow().to_pylist()]


@pytest.mark.requirement("PLT-5", "PLT-6", "CRE-5")
@pytest.mark.parametrize(("schema", "good", "odd", "wrong"), TABLES)
def test_each_invalid_row_breaks_one_rule_and_valid_rows_break_none(
    schema: TableSchema, good: dict[str, Any], odd: list[dict[str, Any]], wrong: list[tuple[dict[str, Any], str]]
) -> None:
    rows = table(schema, numbered(good, [*odd, *(change for change, _ in wrong)]))
    assert broken_rules(schema, rows) == [*(set() for _ in odd), *({rule} for _, rule in wrong)]
    untried = {rule.name for rule in schema.expectations if rule.holds} - {rule for _, rule in wrong}
    assert untried == set()


@pytest.mark.requirement("PLT-5", "CRE-5")
@pytest.mark.parametrize(("schema", "good", "odd", "wrong"), TABLES)
def test_great_expectations_agrees_with_the_row_rules(
    schema: TableSchema, good: dict[str, Any], odd: list[dict[str, Any]], wrong: list[tuple[dict[str, Any], str]]
) -> None:
    rows = table(schema, numbered(good, [*odd, *(change for change, _ in wrong)]))
    judged = {
        judgement.name: judgement.broken
        for judgement in judge(as_frame(rows), schema.expectations, schema.key)
        if not judgement.passed
    }
    assert judged == Counter(rule for _, rule in wrong)


@pytest.mark.requirement("PLT-5")
@pytest.mark.parametrize(("schema", "good", "odd", "wrong"), TABLES)
def test_great_expectations_finds_a_repeated_key_and_an_empty_table(
    schema: TableSchema, good: dict[str, Any], odd: list[dict[str, Any]], wrong: list[tuple[dict[str, Any], str]]
) -> None:
    del odd, wrong
    keys = [rule for rule in schema.expectations if not rule.holds]
    twice = judge(as_frame(table(schema, [good, good])), keys, schema.key)
    assert {judgement.name: judgement.broken for judgement in twice if not judgement.passed} == {
        rule.name: 2 for rule in keys if rule.columns
    }
    empty = judge(as_frame(table(schema, [])), keys, schema.key)
    assert [judgement.name for judgement in empty if not judgement.passed] == ["table_has_rows"]


def features_of_good_ones(loans: ir.Table) -> ir.Table:
    good = [rule.holds(loans).fill_null(True) for rule in LOANS.expectations if rule.holds]
    return loan_features(loans.filter(good))


FEATURES_OF_GOOD_LOANS = Query(types(LOANS), features_of_good_ones)
BROKEN_FEATURES = Query(types(LOAN_FEATURES), lambda features: breaks(LOAN_FEATURES, features))

possible_loans = st.fixed_dictionaries(
    {
        "id": st.integers(1, 2),
        "birthday": st.dates(FIRST_BIRTHDAY, dt.date(2100, 12, 30)),
        "job_start_date": st.none() | st.dates(FIRST_BIRTHDAY, dt.date(3021, 12, 31)),
        "loan_date": st.dates(FIRST_LOAN, LAST_DATE),
        "loan_amount": st.sampled_from([1e-13, HIGHEST_AMOUNT]) | st.floats(0, HIGHEST_AMOUNT, exclude_min=True),
        "flag_own_car": st.sampled_from("YN"),
        "status": st.integers(0, 1),
    }
)


@pytest.mark.requirement("PLT-6", "CRE-5")
@settings(max_examples=60, phases=set(Phase) - {Phase.explain})
@given(st.lists(possible_loans, max_size=4))
def test_features_of_valid_loans_break_no_feature_rule(drawn: list[dict[str, Any]]) -> None:
    features = FEATURES_OF_GOOD_LOANS(numbered(GOOD_LOAN, drawn))
    assert [row for row in BROKEN_FEATURES(features) if any(row.values())] == []
