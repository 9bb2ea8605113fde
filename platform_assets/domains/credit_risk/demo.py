"""Generated sample loans, in the format of the credit bureau's file and with its irregularities.

No value comes from a real person. The sample has these irregularities of the real file:

- About 4 % of the loans have the same client and date as another loan. `loan_id` does not increase with the date.
- 16.5 % of the loans belong to pensioners, with `days_employed` 365243 and thus `job_start_date` 3021-09-18.
- A client has 1 to 61 loans, with a median of about 18. The file is ordered by date, not by client.
- Several client ids share one profile: birthday, income, flags and all other personal columns.
- Some birthdays are on 29 February, and some jobs start after the loan.
- `occupation_type` is empty for most pensioners and some others. `cnt_children` reaches 19.
- Two columns are undocumented: `days_birth` and `days_employed`, in days relative to 2021-09-17.
- One line in 200 is bad on purpose: a negative amount, an unknown flag, an invalid date, a missing client, a repeated
  line, a loan with two different amounts, or a surplus field. A sample of 1,400 rows or more contains every kind.

The label depends on the five features. The risk is higher for clients who are young, have had their job for a short
time, own no car, or had few or large previous loans. About 8 % of all loans are not paid on time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.landing.file_writer import write_csv
from platform_assets.landing.sample_data import Demo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from numpy.typing import NDArray

    Columns = dict[str, NDArray[Any]]

SEED = 20_260_101
REFERENCE_DATE = "2021-09-17"  # `days_birth` and `days_employed` are relative to this day
FIRST_LOAN_DATE = "2019-01-01"
LOAN_DAYS = 730
NO_JOB_DAYS = 365_243
FIRST_LOAN_ID = 1_000
FIRST_CLIENT_ID = 5_000_001
# The real file has 3.7 clients per profile. With that many, a small sample would have too few profiles for a reliable
# result of the gate.
CLIENTS_PER_PROFILE = 1.5
MOST_LOANS = 61
SHARE_OF_PENSIONERS = 0.165
SHARE_OF_BAD_LINES = 0.005
SHARE_OF_DEFAULTS = 0.08

COLUMNS = (
    "loan_id",
    "id",
    "code_gender",
    "flag_own_car",
    "flag_own_realty",
    "cnt_children",
    "amt_income_total",
    "name_income_type",
    "name_education_type",
    "name_family_status",
    "name_housing_type",
    "days_birth",
    "days_employed",
    "flag_mobil",
    "flag_work_phone",
    "flag_phone",
    "flag_email",
    "occupation_type",
    "cnt_fam_members",
    "status",
    "birthday",
    "job_start_date",
    "loan_date",
    "loan_amount",
)


def generate(path: Path, rows: int, seed: int = SEED) -> Path:
    """Write a CSV file of sample loans. The same `rows` and `seed` give the same bytes.

    Parameters
    ----------
    path
        The file, which is written completely or not at all.
    rows
        Lines after the header, including bad lines.
    seed
        Random seed.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    ValueError
        `rows` is not positive.
    OSError
        The file cannot be written.

    """
    import numpy as np

    if rows < 1:
        raise ValueError(f"cannot generate {rows} demo loans; at least 1 is needed")
    random = np.random.default_rng(seed)
    bad = round(rows * SHARE_OF_BAD_LINES)
    # These two kinds of error add a line. The other kinds change an existing line.
    more = sum(spoil in (_repeat, _contradict) for spoil, _ in _spoilers(bad))
    loans = _loans(random, rows - more)
    lines = [list(line) for line in zip(*(loans[name].tolist() for name in COLUMNS), strict=True)]
    places = random.choice(len(lines), size=bad, replace=False).tolist()
    for place, (spoil, column) in zip(sorted(places, reverse=True), _spoilers(bad), strict=True):
        spoil(lines, place, COLUMNS.index(column))
    return write_csv(path, COLUMNS, lines)


def _loans(random: np.random.Generator, rows: int) -> Columns:
    """Return all loans in the order of the file, by column."""
    import numpy as np

    client = _clients_of_loans(random, rows)
    clients = int(client[-1]) + 1
    profile = np.sort(random.integers(0, max(1, round(clients / CLIENTS_PER_PROFILE)), clients))[client]
    people = {name: values[profile] for name, values in _profiles(random, int(profile[-1]) + 1).items()}
    wealth = random.lognormal(0, 0.5, clients)[client]
    day = random.integers(0, LOAN_DAYS, rows)
    columns = people | {
        "loan_id": FIRST_LOAN_ID + np.arange(rows),
        "id": FIRST_CLIENT_ID + client,
        "loan_date": np.datetime64(FIRST_LOAN_DATE) + day,
        # Let amounts grow over time. Otherwise the newest loans, in the holdout, would be less risky than the first,
        # because the risk falls with the number of previous loans.
        "loan_amount": np.round(100 + 22 * wealth * random.exponential(size=rows) * (1 + day / LOAN_DAYS), 6),
    }
    columns["status"] = _defaults(random, columns)
    order = np.lexsort((random.random(rows), day))
    texts = {name: columns[name].astype(str) for name in ("birthday", "job_start_date", "loan_date")}
    return {name: values[order] for name, values in (columns | texts).items()}


def _clients_of_loans(random: np.random.Generator, rows: int) -> NDArray[Any]:
    """Return the client number of each loan, as a sorted array. Client numbers start at 0."""
    import numpy as np

    sizes = 1 + (MOST_LOANS * random.beta(1.0, 2.0, rows)).astype(int)
    return np.repeat(np.arange(rows), sizes)[:rows]


def _profiles(random: np.random.Generator, count: int) -> Columns:
    """Return the personal columns, one value per profile."""
    import numpy as np

    def pick(shares: dict[str, float]) -> NDArray[Any]:
        return random.choice(np.array(list(shares)), size=count, p=np.array(list(shares.values())))

    def dealt(share: float) -> NDArray[Any]:
        # Choose a fixed number of people, at least one. In a small sample, independent draws might choose none.
        return random.permutation(count) < max(1, round(count * share))

    def flag(share: float) -> NDArray[Any]:
        return (random.random(count) < share).astype(int)

    pensioner = dealt(SHARE_OF_PENSIONERS)
    age = np.where(pensioner, random.uniform(52, 68, count), random.uniform(21.5, 66, count))
    birthday = np.datetime64(REFERENCE_DATE) - (age * 365.25).astype(int)
    birthday = np.where(dealt(0.01), _nearest_leap_day(birthday), birthday)
    employed = np.minimum(random.exponential(2_400, count), (age - 18.5) * 365.25).astype(int) + 20
    days_employed = np.where(pensioner, NO_JOB_DAYS, -employed)
    children = np.where(pensioner, 0, np.minimum(random.poisson(0.5, count), 5))
    children = np.where(dealt(0.003), random.integers(7, 20, count), children)
    family = pick(
        {"Married": 0.69, "Single / not married": 0.13, "Civil marriage": 0.08, "Separated": 0.06, "Widow": 0.04}
    )
    couple = np.isin(family, ["Married", "Civil marriage"])
    occupation = pick({"Laborers": 0.3, "Core staff": 0.2, "Sales staff": 0.2, "Managers": 0.16, "Drivers": 0.14})
    return {
        "code_gender": pick({"F": 0.66, "M": 0.34}),
        "flag_own_car": pick({"N": 0.6, "Y": 0.4}),
        "flag_own_realty": pick({"Y": 0.66, "N": 0.34}),
        "cnt_children": children,
        "amt_income_total": 4_500.0 * np.maximum(6, random.lognormal(3.6, 0.45, count).astype(int)),
        "name_income_type": np.where(
            pensioner, "Pensioner", pick({"Working": 0.62, "Commercial associate": 0.28, "State servant": 0.1})
        ),
        "name_education_type": pick(
            {"Secondary / secondary special": 0.68, "Higher education": 0.27, "Incomplete higher": 0.05}
        ),
        "name_family_status": family,
        "name_housing_type": pick({"House / apartment": 0.9, "With parents": 0.06, "Rented apartment": 0.04}),
        "days_birth": (birthday - np.datetime64(REFERENCE_DATE)).astype(int),
        "days_employed": days_employed,
        "flag_mobil": np.ones(count, dtype=int),
        "flag_work_phone": flag(0.23),
        "flag_phone": flag(0.3),
        "flag_email": flag(0.09),
        "occupation_type": np.where(random.random(count) < np.where(pensioner, 0.95, 0.18), "", occupation),
        "cnt_fam_members": 1.0 + couple + children,
        "birthday": birthday,
        "job_start_date": np.datetime64(REFERENCE_DATE) + days_employed,
    }


def _nearest_leap_day(birthday: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    year = 1970 + birthday.astype("datetime64[Y]").astype(int)
    first = (year - year % 4).astype(str)
    return np.char.add(first, "-02-29").astype("datetime64[D]")


def _defaults(random: np.random.Generator, loans: Columns) -> NDArray[Any]:
    """Draw the label with a probability that depends on the five features."""
    import numpy as np

    order = np.lexsort((loans["loan_id"], loans["loan_date"], loans["id"]))
    client, amount = loans["id"][order], loans["loan_amount"][order]
    first = np.searchsorted(client, client)  # position of the client's first loan
    previous = np.arange(len(client)) - first
    paid = np.concatenate(([0.0], np.cumsum(amount)))
    average = np.where(previous > 0, (paid[:-1] - paid[first]) / np.maximum(previous, 1), 130.0)
    date = loans["loan_date"][order]
    age = (date - loans["birthday"][order]).astype(int) / 365.25
    tenure = (date - loans["job_start_date"][order]).astype(int) / 365.25
    score = (
        -0.055 * (age - 42)
        - 0.6 * np.sqrt(np.clip(tenure, 0, 25))
        - 0.7 * (loans["flag_own_car"][order] == "Y")
        - 0.02 * previous
        + 0.03 * np.clip(average - 125, -25, 60)
    )
    low, high = -20.0, 20.0
    for _ in range(60):  # find the intercept that gives `SHARE_OF_DEFAULTS`
        middle = (low + high) / 2
        low, high = (low, middle) if _logistic(score + middle).mean() > SHARE_OF_DEFAULTS else (middle, high)
    status = np.empty(len(order), dtype=int)
    status[order] = random.random(len(order)) < _logistic(score + low)
    return status


def _logistic(score: NDArray[Any]) -> NDArray[Any]:
    import numpy as np

    return np.asarray(1 / (1 + np.exp(-score)))


def _negate(lines: list[list[Any]], place: int, column: int) -> None:
    lines[place][column] = -lines[place][column]


def _mistype(lines: list[list[Any]], place: int, column: int) -> None:
    lines[place][column] = "?"


def _break_date(lines: list[list[Any]], place: int, column: int) -> None:
    lines[place][column] = "2020-02-31"


def _empty(lines: list[list[Any]], place: int, column: int) -> None:
    lines[place][column] = ""


def _repeat(lines: list[list[Any]], place: int, _column: int) -> None:
    lines.insert(place + 1, list(lines[place]))


def _contradict(lines: list[list[Any]], place: int, column: int) -> None:
    _repeat(lines, place, column)
    lines[place + 1][column] = round(lines[place][column] + 1, 6)


def _lengthen(lines: list[list[Any]], place: int, _column: int) -> None:
    lines[place].append("surplus")


SPOILERS = (
    (_negate, "loan_amount"),
    (_mistype, "flag_own_car"),
    (_break_date, "loan_date"),
    (_empty, "id"),
    (_repeat, "loan_id"),
    (_contradict, "loan_amount"),
    (_lengthen, "loan_id"),
)


def _spoilers(count: int) -> list[Any]:
    return [SPOILERS[i % len(SPOILERS)] for i in range(count)]


FEWEST = 3_000
"""Minimum number of rows for training the model. With fewer, a fold of the cross-validation has no unpaid loan."""

LOANS = Demo(generate, fewest=FEWEST)
