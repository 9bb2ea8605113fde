"""Credit risk's tables: columns, types, units, and what must hold before they are published.

How the features are computed is in `features.py`; how rows that break a rule are set apart is
the platform's business.
"""

from __future__ import annotations

import datetime as dt

from platform_assets.lake.expectations import (
    has_rows,
    is_after,
    is_at_least,
    is_not_negative,
    is_null_when,
    is_one_of,
    is_positive,
    is_present,
    is_present_unless,
    is_unique,
    is_within,
)
from platform_assets.lake.schemas import Column, TableSchema

CURRENCY = "currency units"  # the source names no currency
YEARS = "years"
LOANS_UNIT = "loans"

FIRST_BIRTHDAY = dt.date(1900, 1, 1)
FIRST_LOAN = dt.date(1990, 1, 1)
LAST_DATE = dt.date(2100, 12, 31)
# Follows from the dates above. Were it tighter, one odd row that the loans' own rules let pass
# would stop the features of all others.
HIGHEST_AGE = LAST_DATE.year - FIRST_BIRTHDAY.year
HIGHEST_AMOUNT = 1e12

LOAN_ID = Column("loan_id", "int64", "Number of the loan, unique.")

LOANS = TableSchema(
    name="credit_risk/loans",
    columns=(
        LOAN_ID,
        Column("id", "int64", "Number of the client who took the loan."),
        Column("code_gender", "string", "Gender of the client: F or M."),
        Column("flag_own_car", "string", "Whether the client owns a car: Y or N."),
        Column("flag_own_realty", "string", "Whether the client owns real estate: Y or N."),
        Column("cnt_children", "int64", "Number of the client's children.", "children"),
        Column("amt_income_total", "float64", "Yearly income of the client.", f"{CURRENCY} per year"),
        Column("name_income_type", "string", "Kind of income, e.g. Working, Pensioner, State servant."),
        Column("name_education_type", "string", "Highest education of the client."),
        Column("name_family_status", "string", "Family status of the client."),
        Column("name_housing_type", "string", "How the client lives, e.g. in an own house, with parents."),
        Column("flag_mobil", "int64", "Whether the client gave a mobile telephone: 1 or 0."),
        Column("flag_work_phone", "int64", "Whether the client gave a telephone at work: 1 or 0."),
        Column("flag_phone", "int64", "Whether the client gave a telephone at home: 1 or 0."),
        Column("flag_email", "int64", "Whether the client gave an e-mail address: 1 or 0."),
        Column("occupation_type", "string", "Occupation of the client; null where none was given."),
        Column("cnt_fam_members", "float64", "Size of the client's family, the client included.", "people"),
        Column("status", "int64", "How the loan went: 0 paid on time, 1 not."),
        Column("birthday", "date", "Day on which the client was born."),
        Column(
            "job_start_date",
            "date",
            "Day on which the client's current job began; the year 3021 stands for no job (pensioners).",
        ),
        Column("loan_date", "date", "Day on which the loan was granted."),
        Column("loan_amount", "float64", "Amount of the loan.", CURRENCY),
    ),
    key=("loan_id",),
    source=True,
    expectations=(
        has_rows(),
        is_unique("loan_id"),
        *(
            is_present(column)
            for column in ("loan_id", "id", "birthday", "loan_date", "loan_amount", "flag_own_car", "status")
        ),
        is_within("loan_date", FIRST_LOAN, LAST_DATE),
        is_within("birthday", FIRST_BIRTHDAY, LAST_DATE),
        is_after("loan_date", "birthday"),
        # No upper bound: a job that starts after the loan, in 3021 for one, is no job on that day.
        is_after("job_start_date", "birthday"),
        is_positive("loan_amount", at_most=HIGHEST_AMOUNT),
        is_positive("amt_income_total", at_most=HIGHEST_AMOUNT),
        is_one_of("code_gender", ("F", "M")),
        is_one_of("flag_own_car", ("Y", "N")),
        is_one_of("flag_own_realty", ("Y", "N")),
        *(is_one_of(flag, (0, 1)) for flag in ("flag_mobil", "flag_work_phone", "flag_phone", "flag_email")),
        is_one_of("status", (0, 1)),
    ),
)

PERSON = tuple(
    column.name
    for column in LOANS.columns
    if column.name not in {"loan_id", "id", "status", "loan_date", "loan_amount"}
)
"""Columns that describe the person, not the loan."""

CLIENT_ID = Column("client_id", "int64", "Number of the client, `id` among the loans.")

FEATURES = (
    Column("nb_previous_loans", "int64", "Loans granted to the client before this one.", LOANS_UNIT),
    Column(
        "avg_amount_loans_previous",
        "float64",
        "Average amount of the loans granted to the client before this one; null for the first.",
        CURRENCY,
    ),
    Column("age", "int32", "Age of the client on the loan's date, in completed years.", YEARS),
    Column(
        "years_on_the_job",
        "int32",
        "Completed years in the job on the loan's date; null for a client without a job on that day.",
        YEARS,
    ),
    Column("flag_own_car", "int32", "1 when the client owns a car, 0 when not."),
)

FEATURE_EXPECTATIONS = (
    is_present("nb_previous_loans"),
    is_not_negative("nb_previous_loans"),
    is_null_when("avg_amount_loans_previous", "nb_previous_loans", 0),
    is_present_unless("avg_amount_loans_previous", "nb_previous_loans", 0),
    # Zero included: amounts are summed to 12 decimals, and a smaller one counts as nothing.
    is_within("avg_amount_loans_previous", 0.0, HIGHEST_AMOUNT),
    is_present("age"),
    is_within("age", 0, HIGHEST_AGE),
    is_within("years_on_the_job", 0, HIGHEST_AGE),
    is_at_least("age", "years_on_the_job"),
    is_present("flag_own_car"),
    is_one_of("flag_own_car", (0, 1)),
)

LOAN_FEATURES = TableSchema(
    name="credit_risk/loan_features",
    columns=(
        LOAN_ID,
        CLIENT_ID,
        Column("loan_date", "date", "Day on which the loan was granted, and as of which the features hold."),
        *FEATURES,
        Column("status", "int64", "How the loan went: 0 paid on time, 1 not. The label, not a feature."),
    ),
    key=("loan_id",),
    expectations=(
        has_rows(),
        is_unique("loan_id"),
        is_present("loan_id"),
        is_present("client_id"),
        is_within("loan_date", FIRST_LOAN, LAST_DATE),
        *FEATURE_EXPECTATIONS,
        is_one_of("status", (0, 1)),
    ),
)

CLIENT_FEATURES = TableSchema(
    name="credit_risk/client_features",
    columns=(
        CLIENT_ID,
        Column("as_of", "date", "Date of the client's newest loan, as of which the features hold."),
        Column("loan_id", "int64", "Number of the client's newest loan."),
        *FEATURES,
    ),
    key=("client_id",),
    store="online",
    expectations=(
        has_rows(),
        is_unique("client_id"),
        is_present("client_id"),
        is_unique("loan_id"),
        is_within("as_of", FIRST_LOAN, LAST_DATE),
        *FEATURE_EXPECTATIONS,
    ),
)
