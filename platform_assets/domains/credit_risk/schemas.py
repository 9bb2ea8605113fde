"""Credit risk's tables: columns, types, units, and the expectations that are checked before publication.

`features.py` computes the features. `lake/quarantine.py` quarantines rows that break a rule.
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
from platform_assets.lake.schemas import Column, Subject, TableSchema

CURRENCY = "currency units"  # the source names no currency
YEARS = "years"
LOANS_UNIT = "loans"

FIRST_BIRTHDAY = dt.date(1900, 1, 1)
FIRST_LOAN = dt.date(1990, 1, 1)
LAST_DATE = dt.date(2100, 12, 31)
# The highest age that the dates above allow. A tighter bound would let one unusual but valid loan block the features
# of all loans.
HIGHEST_AGE = LAST_DATE.year - FIRST_BIRTHDAY.year
HIGHEST_AMOUNT = 1e12

CLIENT = "client"
"""Kind of person whose data the tables contain; an argument of `platform-assets erase`."""

LOAN_ID = Column("loan_id", "int64", "Id of the loan, unique.")

LOANS = TableSchema(
    name="credit_risk/loans",
    columns=(
        LOAN_ID,
        Column("id", "int64", "Id of the client who took the loan."),
        Column("code_gender", "string", "Client's gender: F or M."),
        Column("flag_own_car", "string", "Whether the client owns a car: Y or N."),
        Column("flag_own_realty", "string", "Whether the client owns real estate: Y or N."),
        Column("cnt_children", "int64", "Number of the client's children.", "children"),
        Column("amt_income_total", "float64", "Yearly income of the client.", f"{CURRENCY} per year"),
        Column("name_income_type", "string", "Kind of income, e.g. Working, Pensioner, State servant."),
        Column("name_education_type", "string", "Highest education of the client."),
        Column("name_family_status", "string", "Family status of the client."),
        Column("name_housing_type", "string", "Housing of the client, e.g. own house, with parents."),
        Column("flag_mobil", "int64", "Whether the client gave a mobile phone number: 1 or 0."),
        Column("flag_work_phone", "int64", "Whether the client gave a work phone number: 1 or 0."),
        Column("flag_phone", "int64", "Whether the client gave a home phone number: 1 or 0."),
        Column("flag_email", "int64", "Whether the client gave an email address: 1 or 0."),
        Column("occupation_type", "string", "Client's occupation; null if not given."),
        Column("cnt_fam_members", "float64", "Size of the client's family, including the client.", "people"),
        Column("status", "int64", "Outcome of the loan: 0 paid on time, 1 not."),
        Column("birthday", "date", "Client's date of birth."),
        Column(
            "job_start_date",
            "date",
            "First day of the client's current job; the year 3021 means no job (pensioners).",
        ),
        Column("loan_date", "date", "Day on which the loan was granted."),
        Column("loan_amount", "float64", "Amount of the loan.", CURRENCY),
    ),
    key=("loan_id",),
    source=True,
    subject=Subject(CLIENT, "id"),
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
        # Set no upper bound, because a job that starts after the loan, for example in 3021, means no job.
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

CLIENT_ID = Column("client_id", "int64", "Id of the client; the column `id` of `loans`.")

FEATURES = (
    Column("nb_previous_loans", "int64", "Number of loans granted to the client before this one.", LOANS_UNIT),
    Column(
        "avg_amount_loans_previous",
        "float64",
        "Average amount of the loans granted to the client before this one; null for the first loan.",
        CURRENCY,
    ),
    Column("age", "int32", "Age of the client on the loan's date, in completed years.", YEARS),
    Column(
        "years_on_the_job",
        "int32",
        "Completed years in the job on the loan's date; null for a client without a job on that day.",
        YEARS,
    ),
    Column("flag_own_car", "int32", "1 if the client owns a car, 0 if not."),
)

FEATURE_EXPECTATIONS = (
    is_present("nb_previous_loans"),
    is_not_negative("nb_previous_loans"),
    is_null_when("avg_amount_loans_previous", "nb_previous_loans", 0),
    is_present_unless("avg_amount_loans_previous", "nb_previous_loans", 0),
    # Allow zero, because amounts are rounded to 12 decimals before they are summed, so tiny amounts become zero.
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
        Column("loan_date", "date", "Day on which the loan was granted. The features are computed as of this day."),
        *FEATURES,
        Column("status", "int64", "Outcome of the loan: 0 paid on time, 1 not. The label, not a feature."),
    ),
    key=("loan_id",),
    subject=Subject(CLIENT, "client_id"),
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
        Column("as_of", "date", "Date of the client's newest loan. The features are computed as of this day."),
        Column("loan_id", "int64", "Id of the client's newest loan."),
        *FEATURES,
    ),
    key=("client_id",),
    store="online",
    subject=Subject(CLIENT, "client_id"),
    expectations=(
        has_rows(),
        is_unique("client_id"),
        is_present("client_id"),
        is_unique("loan_id"),
        is_within("as_of", FIRST_LOAN, LAST_DATE),
        *FEATURE_EXPECTATIONS,
    ),
)
