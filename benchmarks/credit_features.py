"""Benchmark of the credit-risk loan features, including reading and writing files: the platform against other code.

The platform reads a Delta table, publishes a new Delta table and computes its digest, as in a run. The other
implementations read the same rows from a parquet file and write a parquet file. Expectations are not evaluated. The
loans come from PLATFORM_CREDIT_LOANS_URI; if this variable is unset, 615,000 demo loans are used.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pandas as pd

from benchmarks.measuring import Way, compare, take_turns
from platform_assets.domains.credit_risk.features import loan_features
from platform_assets.domains.credit_risk.schemas import FEATURES, LOAN_FEATURES, LOANS
from platform_assets.domains.credit_risk.sources import read_loans
from platform_assets.services import Services, open_services
from platform_assets.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable

DEMO_ROWS = 615_000
COPIES = 10
ROUNDS = {1: 7, COPIES: 3}
READ = [
    "loan_id",
    "id",
    "flag_own_car",
    "status",
    "birthday",
    "job_start_date",
    "loan_date",
    "loan_amount",
]

BY_HAND = """
COPY (
  SELECT loan_id, id AS client_id, loan_date,
    count(*) OVER earlier AS nb_previous_loans,
    avg(loan_amount) OVER earlier AS avg_amount_loans_previous,
    year(loan_date) - year(birthday)
      - (month(loan_date) * 100 + day(loan_date) < month(birthday) * 100 + day(birthday))::INTEGER AS age,
    CASE WHEN job_start_date <= loan_date THEN year(loan_date) - year(job_start_date)
      - (month(loan_date) * 100 + day(loan_date) < month(job_start_date) * 100 + day(job_start_date))::INTEGER
    END AS years_on_the_job,
    (flag_own_car = 'Y')::INTEGER AS flag_own_car, status
  FROM read_parquet('{source}')
  WINDOW earlier AS (
    PARTITION BY id ORDER BY loan_date, loan_id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
  )
) TO '{target}' (FORMAT parquet)
"""


def platform(folder: Path) -> Callable[[], None]:
    """Return a function that computes the features as the platform does, from a Delta table to a Delta table."""
    shutil.rmtree(folder / "home/lake/credit_risk/loan_features", ignore_errors=True)

    def work() -> None:
        services = _services(folder)
        features = loan_features(services.tables.scan(LOANS.name))
        with services.engine.stage(features) as staged:
            services.tables.publish(LOAN_FEATURES.name, staged)

    return work


def by_hand(folder: Path) -> None:
    """Run the hand-written SQL, which reads and writes parquet files.

    The SQL averages amounts of type double. This is the fastest type, but the last bit of an average depends on the
    order of the rows.
    """
    query = BY_HAND.format(source=folder / "loans.parquet", target=folder / "by_hand.parquet")
    with duckdb.connect(config={"preserve_insertion_order": False}) as connection:
        connection.execute(query)


def pandas(folder: Path) -> None:
    """Compute the same features with cumulative sums per group."""
    loans = _in_pandas(folder)
    amounts = loans.groupby("id").loan_amount
    before = amounts.cumcount()
    features = pd.DataFrame(
        {
            "loan_id": loans.loan_id,
            "client_id": loans.id,
            "loan_date": loans.loan_date,
            "nb_previous_loans": before,
            "avg_amount_loans_previous": (amounts.cumsum() - loans.loan_amount) / before.where(before > 0),
            "age": _completed_years(loans.birthday, loans.loan_date),
            "years_on_the_job": _completed_years(loans.job_start_date, loans.loan_date).where(
                loans.job_start_date <= loans.loan_date
            ),
            "flag_own_car": (loans.flag_own_car == "Y").astype("int32"),
            "status": loans.status,
        }
    )
    features.to_parquet(folder / "pandas.parquet", index=False)


def notebook(folder: Path) -> None:
    """Compute the features with the formulas of the original notebook, which differ from the platform's."""
    loans = _in_pandas(folder, by=["loan_date"])
    loans["nb_previous_loans"] = loans.groupby("id").loan_date.rank(method="first") - 1
    means = loans.groupby("id").loan_amount.expanding().mean().droplevel(0)
    loans["avg_amount_loans_previous"] = means.groupby(loans.id).shift().fillna(0)
    today = pd.Timestamp.today().normalize()
    loans["age"] = (today - loans.birthday).dt.days // 365
    loans["years_on_the_job"] = (today - loans.job_start_date).dt.days // 365
    loans["flag_own_car"] = (loans.flag_own_car == "Y").astype(int)
    columns = ["loan_id", "id", *(feature.name for feature in FEATURES), "status"]
    loans[columns].to_parquet(folder / "notebook.parquet", index=False)


def polars(folder: Path) -> None:
    """Compute the same features with polars' lazy engine: one sort, then cumulative sums per client."""
    import polars as pl

    def completed_years(start: str) -> pl.Expr:
        begin, end = pl.col(start).dt, pl.col("loan_date").dt
        ahead = end.month().cast(pl.Int32) * 100 + end.day() < begin.month().cast(pl.Int32) * 100 + begin.day()
        return end.year() - begin.year() - ahead.cast(pl.Int32)

    loans = pl.scan_parquet(folder / "loans.parquet").sort("id", "loan_date", "loan_id")
    before = pl.int_range(pl.len()).over("id")
    amount = pl.col("loan_amount")
    loans.select(
        "loan_id",
        pl.col("id").alias("client_id"),
        "loan_date",
        before.alias("nb_previous_loans"),
        pl.when(before > 0).then((amount.cum_sum().over("id") - amount) / before).alias("avg_amount_loans_previous"),
        completed_years("birthday").alias("age"),
        pl.when(pl.col("job_start_date") <= pl.col("loan_date"))
        .then(completed_years("job_start_date"))
        .alias("years_on_the_job"),
        (pl.col("flag_own_car") == "Y").cast(pl.Int32).alias("flag_own_car"),
        "status",
    ).sink_parquet(folder / "polars.parquet")


WAYS: dict[str, Callable[[Path], Callable[[], None]]] = {
    "DuckDB SQL by hand": lambda folder: partial(by_hand, folder),
    "platform, with digest and commit": platform,
    "polars": lambda folder: partial(polars, folder),
    "pandas": lambda folder: partial(pandas, folder),
    "pandas, the notebook's formulas": lambda folder: partial(notebook, folder),
}


def run() -> None:
    """Measure all implementations on the loans, and on ten copies of the loans."""
    with tempfile.TemporaryDirectory(prefix="benchmark-", ignore_cleanup_errors=True) as name:
        once, tenfold = Path(name) / "1", Path(name) / str(COPIES)
        rows = _prepare(once)
        _multiply(once, tenfold)
        for folder, copies in ((once, 1), (tenfold, COPIES)):
            ways = [Way(name, ["benchmarks.credit_features", name, str(folder)]) for name in WAYS]
            title = f"loan features of {copies * rows:,} loans, including reading and writing files"
            compare(title, ways, ROUNDS[copies], reference="DuckDB SQL by hand")
        print(_agreement(once))


def _services(folder: Path) -> Services:
    return open_services(Settings(home=folder / "home", lake_uri=""))


def _in_pandas(folder: Path, by: list[str] | None = None) -> pd.DataFrame:
    loans = pd.read_parquet(folder / "loans.parquet", columns=READ)
    for column in ("birthday", "job_start_date", "loan_date"):
        loans[column] = loans[column].astype("datetime64[s]")
    return loans.sort_values(by or ["id", "loan_date", "loan_id"], ignore_index=True)


def _completed_years(start: pd.Series[pd.Timestamp], end: pd.Series[pd.Timestamp]) -> pd.Series[int]:
    ahead = end.dt.month * 100 + end.dt.day < start.dt.month * 100 + start.dt.day
    years: pd.Series[int] = end.dt.year - start.dt.year - ahead
    return years


def _prepare(folder: Path) -> int:
    """Publish the loans as the platform does, copy them to one parquet file, and return their number."""
    services = open_services(Settings(home=folder / "home", lake_uri="", sources="demo", demo_rows=DEMO_ROWS))
    validated = services.validator.validate(LOANS, read_loans(services.sources, services.engine))
    broken = [judgement.name for judgement in validated.judgements if not judgement.passed]
    print(f"{validated.table.rows:,} loans, demo data: {validated.demo}; failed expectations: {broken}")
    services.tables.publish(LOANS.name, validated.table)
    _copy(services, f"SELECT * FROM read_parquet({_files(validated.table.parts)})", folder)
    rows = validated.table.rows
    validated.discard()
    return rows


def _multiply(source: Path, target: Path) -> None:
    """Publish several copies of the loans. The loan and client ids of each copy are unique."""
    services = _services(target)
    query = f"""
        SELECT loans.* REPLACE (loan_id + copy * 1_000_000_000 AS loan_id, id + copy * 1_000_000_000 AS id)
        FROM read_parquet('{source / "loans.parquet"}') loans, range({COPIES}) copies(copy)
    """
    _copy(services, query, target)
    with services.engine.stage(services.engine.parquet(target / "loans.parquet")) as staged:
        services.tables.publish(LOANS.name, staged)


def _copy(services: Services, query: str, folder: Path) -> None:
    services.engine.sql(f"COPY ({query}) TO '{folder / 'loans.parquet'}' (FORMAT parquet)")


def _files(parts: object) -> list[str]:
    assert isinstance(parts, dict)
    return [str(file) for part in parts.values() for file in part.files]


def _agreement(folder: Path) -> str:
    """Report for how many loans each implementation's features differ from the platform's."""
    services = _services(folder)
    columns = [feature.name for feature in FEATURES]
    lines = ["\nnumber of loans whose value differs from the platform's, per feature; relative tolerance: 1e-9"]
    services.engine.duckdb.register("ours", services.tables.read(LOAN_FEATURES.name))
    for name in ("by_hand", "polars", "pandas", "notebook"):
        differs = {
            column: f"a.{column} IS DISTINCT FROM b.{column} "
            f"AND NOT coalesce(abs(a.{column} - b.{column}) <= 1e-9 * abs(b.{column}), false)"
            for column in columns
        }
        counts = ", ".join(f"count(*) FILTER ({condition})" for condition in differs.values())
        file = folder / f"{name}.parquet"
        [found] = services.engine.sql(f"SELECT {counts} FROM ours a JOIN read_parquet('{file}') b USING (loan_id)")
        told = ", ".join(f"{column} {count:,}" for column, count in zip(columns, found, strict=True) if count)
        lines.append(f"{name:38}{told or 'none'}")
    return "\n".join(lines)


if __name__ == "__main__":
    take_turns(partial(WAYS[sys.argv[1]], Path(sys.argv[2])))
