"""Credit risk's features as Ibis expressions: pure functions from table to table.

An expression runs on the engine that stores its table: DuckDB, PostgreSQL or Spark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.credit_risk.schemas import FEATURES, PERSON

if TYPE_CHECKING:
    import ibis.expr.types as ir


def loan_features(loans: ir.Table) -> ir.Table:
    """Compute the five features of each loan, as of the day on which it was granted.

    Parameters
    ----------
    loans
        One row per loan, with the columns of `schemas.LOANS`.

    Returns
    -------
    ir.Table
        One row per loan, with the columns of `schemas.LOAN_FEATURES`, in no particular order.

    """
    import ibis

    order = (loans.loan_date, loans.loan_id)
    nb_previous = ibis.row_number().over(group_by=loans.id, order_by=order)
    # Sum decimals, because their sum does not depend on the order of addition. DuckDB adds the window frames of many
    # clients in one tree, so the last bit of a float average would depend on other clients and on later loans.
    total_previous = (
        loans.loan_amount.cast("decimal(38, 12)").sum().over(group_by=loans.id, order_by=order, rows=(None, -1))
    )
    return loans.select(
        loan_id=loans.loan_id,
        client_id=loans.id,
        loan_date=loans.loan_date,
        nb_previous_loans=nb_previous.cast("int64"),
        avg_amount_loans_previous=total_previous.cast("float64") / nb_previous.nullif(0),
        age=_completed_years(loans.birthday, loans.loan_date),
        years_on_the_job=ibis.ifelse(
            loans.job_start_date <= loans.loan_date,
            _completed_years(loans.job_start_date, loans.loan_date),
            ibis.null("int32"),
        ),
        flag_own_car=(loans.flag_own_car == "Y").cast("int32"),
        status=loans.status,
    )


def newest_per_client(loan_features: ir.Table) -> ir.Table:
    """Return the features of each client's newest loan, by (`loan_date`, `loan_id`).

    Parameters
    ----------
    loan_features
        One row per loan, with the columns of `schemas.LOAN_FEATURES`.

    Returns
    -------
    ir.Table
        One row per client, with the columns of `schemas.CLIENT_FEATURES`, in no particular order.

    """
    import ibis

    newest_first = (ibis.desc(loan_features.loan_date), ibis.desc(loan_features.loan_id))
    place = ibis.row_number().over(group_by=loan_features.client_id, order_by=newest_first)
    newest = loan_features.mutate(place=place)
    return newest.filter(newest.place == 0).select(
        "client_id", newest.loan_date.name("as_of"), "loan_id", *(feature.name for feature in FEATURES)
    )


def profile(loans: ir.Table) -> ir.StringColumn:
    """Compute a person's profile: a digest of all columns that describe the person. Several client ids may share it.

    Parameters
    ----------
    loans
        Rows with the columns of `schemas.LOANS`.

    Returns
    -------
    ir.StringColumn
        SHA-256 in hexadecimal. It must not differ between engines or versions, because the holdout depends on it.
    """
    import ibis

    # `_as_text` turns floats into whole numbers, because engines format floats differently.
    texts = (ibis.coalesce(_as_text(loans[column]), "") for column in PERSON)
    return ibis.literal("|").join([*texts]).hexdigest("sha256")


def age_group(age: ir.IntegerColumn) -> ir.StringColumn:
    """Return the age group of an age in completed years; null if the age is null."""
    import ibis

    groups = {30: "under 30", 45: "30 to 44", 60: "45 to 59", 1_000: "60 and over"}
    return ibis.cases(*((age < end, name) for end, name in groups.items()))


def _as_text(column: ir.Column) -> ir.StringColumn:
    return (column * 100).round().cast("int64").cast("string") if column.type().is_floating() else column.cast("string")


def _completed_years(start: ir.DateValue, end: ir.DateValue) -> ir.IntegerValue:
    # Compare month and day, so that a person born on 29 February turns a year older on 1 March of a common year.
    anniversary_ahead = _month_and_day(end) < _month_and_day(start)
    return (end.year() - start.year() - anniversary_ahead.cast("int32")).cast("int32")


def _month_and_day(date: ir.DateValue) -> ir.IntegerValue:
    return date.month() * 100 + date.day()
