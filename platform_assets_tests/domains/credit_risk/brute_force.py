"""A second implementation of credit risk's features in plain Python, comparing each loan with all others.

Written from the definitions in the domain's README.md, in another form than the expression:
no windows, no decimals, years by anniversaries. Slow, and meant to be read.
"""

from __future__ import annotations

import calendar
import csv
import datetime as dt
import math
from collections import defaultdict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path


class Loan(NamedTuple):
    loan_id: int
    id: int
    birthday: dt.date
    job_start_date: dt.date | None
    loan_date: dt.date
    loan_amount: float
    flag_own_car: str
    status: int = 0


class Row(NamedTuple):
    loan_id: int
    client_id: int
    loan_date: dt.date
    nb_previous_loans: int
    avg_amount_loans_previous: float | None
    age: int
    years_on_the_job: int | None
    flag_own_car: int
    status: int

    def equals(self, other: Row) -> bool:
        """Compare integers, dates and nulls exactly, and averages to a relative 1e-12 (another order of summation)."""
        mine, its = self.avg_amount_loans_previous, other.avg_amount_loans_previous
        if mine is None or its is None:
            return self == other
        return self == other._replace(avg_amount_loans_previous=mine) and math.isclose(
            mine, its, rel_tol=1e-12, abs_tol=1e-12
        )


def loan_features(loans: Iterable[Loan]) -> list[Row]:
    """Return one row per loan, ordered by `loan_id`."""
    by_client = defaultdict(list)
    for loan in loans:
        by_client[loan.id].append(loan)
    return sorted(_row(loan, others) for others in by_client.values() for loan in others)


def newest_per_client(rows: Iterable[Row]) -> list[Row]:
    """Return the row of each client's newest loan, ordered by client."""
    newest: dict[int, Row] = {}
    for row in rows:
        best = newest.get(row.client_id)
        if best is None or (row.loan_date, row.loan_id) > (best.loan_date, best.loan_id):
            newest[row.client_id] = row
    return [newest[client] for client in sorted(newest)]


def good_loans(path: Path) -> Iterator[Loan]:
    """Return the loans of a demo file whose lines are well-formed, unambiguous and valid."""
    with path.open(encoding="utf-8", newline="") as file:
        header, *lines = csv.reader(file)
    versions = defaultdict(set)
    for line in lines:
        versions[line[0]].add(tuple(line))
    for contents in versions.values():
        only = contents.pop()
        values = dict(zip(header, only, strict=False))
        if not contents and len(only) == len(header) and _is_good(values):
            yield _loan(values)


def _row(loan: Loan, others: list[Loan]) -> Row:
    earlier = [o for o in others if (o.loan_date, o.loan_id) < (loan.loan_date, loan.loan_id)]
    has_job = loan.job_start_date is not None and loan.job_start_date <= loan.loan_date
    return Row(
        loan_id=loan.loan_id,
        client_id=loan.id,
        loan_date=loan.loan_date,
        nb_previous_loans=len(earlier),
        avg_amount_loans_previous=math.fsum(o.loan_amount for o in earlier) / len(earlier) if earlier else None,
        age=_years_between(loan.birthday, loan.loan_date),
        years_on_the_job=_years_between(loan.job_start_date, loan.loan_date)
        if has_job and loan.job_start_date
        else None,
        flag_own_car={"Y": 1, "N": 0}[loan.flag_own_car],
        status=loan.status,
    )


def _years_between(start: dt.date, end: dt.date) -> int:
    years = end.year - start.year
    return years if _anniversary(start, end.year) <= end else years - 1


def _anniversary(day: dt.date, year: int) -> dt.date:
    if (day.month, day.day) == (2, 29) and not calendar.isleap(year):
        return dt.date(year, 3, 1)
    return day.replace(year=year)


def _is_good(line: dict[str, str]) -> bool:
    return (
        line["id"] != ""
        and line["flag_own_car"] in {"Y", "N"}
        and line["loan_date"] != "2020-02-31"
        and float(line["loan_amount"]) > 0
    )


def _loan(line: dict[str, str]) -> Loan:
    return Loan(
        loan_id=int(line["loan_id"]),
        id=int(line["id"]),
        birthday=dt.date.fromisoformat(line["birthday"]),
        job_start_date=dt.date.fromisoformat(line["job_start_date"]),
        loan_date=dt.date.fromisoformat(line["loan_date"]),
        loan_amount=float(line["loan_amount"]),
        flag_own_car=line["flag_own_car"],
        status=int(line["status"]),
    )
