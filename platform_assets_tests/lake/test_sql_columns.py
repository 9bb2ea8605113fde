"""The types and lengths of a target's columns, and the conversion of values to these types."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pytest
import sqlalchemy as sa
from sqlalchemy.dialects import mssql, mysql, postgresql

from platform_assets.lake.sql_columns import Storage, TargetColumn, accepts, convert, storage_of
from platform_assets.lake.sql_target import SqlTargetError

pytestmark = pytest.mark.requirement("ESI-3", "PLT-12")
MSSQL: Any = mssql  # SQLAlchemy's MSSQL types are not annotated
NOON = datetime(2017, 3, 26, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("dialect", "kind", "expected"),
    [
        ("mssql", MSSQL.DATETIME2(precision=0), Storage("time", pa.timestamp("s"))),
        ("mssql", MSSQL.DATETIME2(), Storage("time", pa.timestamp("us"))),
        ("mssql", sa.DATETIME(), Storage("time", pa.timestamp("s"))),
        ("mssql", MSSQL.DATETIMEOFFSET(precision=3), Storage("time", pa.timestamp("ms"), has_zone=True)),
        ("mssql", MSSQL.SMALLDATETIME(), None),
        ("mssql", sa.DATE(), Storage("date", pa.date32())),
        ("mssql", sa.FLOAT(precision=53), Storage("number", pa.float64())),
        ("mssql", sa.FLOAT(precision=24), Storage("number", pa.float32())),
        ("mssql", MSSQL.REAL(), Storage("number", pa.float32())),
        ("mssql", MSSQL.TINYINT(), Storage("number", pa.uint8())),
        ("mssql", sa.BIGINT(), Storage("number", pa.int64())),
        ("mssql", sa.NUMERIC(18, 2), Storage("number", pa.decimal128(18, 2))),
        ("mssql", MSSQL.BIT(), Storage("truth", pa.bool_())),
        ("mssql", sa.NVARCHAR(200), Storage("text", length=200)),
        ("mssql", sa.NVARCHAR(), Storage("text")),
        ("mssql", sa.CHAR(3), Storage("text", length=3, is_padded=True)),
        ("mssql", MSSQL.NTEXT(), None),
        ("mssql", MSSQL.XML(), None),
        ("mssql", MSSQL.UNIQUEIDENTIFIER(), None),
        ("mssql", MSSQL.ROWVERSION(), None),
        ("mssql", MSSQL.VARBINARY(8), None),
        ("mysql", mysql.DATETIME(), Storage("time", pa.timestamp("s"))),
        ("mysql", mysql.TIMESTAMP(fsp=6), Storage("time", pa.timestamp("us"))),
        ("mysql", mysql.TINYINT(display_width=1), Storage("truth", pa.int8())),
        ("mysql", mysql.INTEGER(unsigned=True), Storage("number", pa.uint32())),
        ("mysql", mysql.FLOAT(), Storage("number", pa.float32())),
        ("mysql", mysql.ENUM("a"), None),
        ("postgresql", postgresql.TIMESTAMP(timezone=True), Storage("time", pa.timestamp("us"), has_zone=True)),
        ("postgresql", sa.DOUBLE_PRECISION(), Storage("number", pa.float64(), holds_infinity=True)),
        ("postgresql", sa.NUMERIC(), Storage("number")),
        ("postgresql", postgresql.JSONB(), None),
        ("sqlite", sa.INTEGER(), Storage("number", pa.int64())),
        ("sqlite", sa.VARCHAR(3), Storage("text")),
    ],
)
def test_the_type_of_a_column_determines_its_storage_type(dialect: str, kind: Any, expected: Storage | None) -> None:
    assert storage_of(kind, dialect) == expected


DECIMAL = Storage("number", pa.decimal128(7, 2))
EXACT = [
    (pa.array([1.0, None]), Storage("number", pa.int64()), [1, None]),
    (pa.array([27_000.25]), DECIMAL, [pytest.approx(27_000.25)]),
    (pa.array([1 << 31]), Storage("number", pa.int64()), [1 << 31]),
    (pa.array([float("inf")]), Storage("number", pa.float64(), holds_infinity=True), [float("inf")]),
    (pa.array([NOON], pa.timestamp("us", "UTC")), Storage("text", length=19), ["2017-03-26 12:00:00"]),
    (
        pa.array([NOON], pa.timestamp("ns", "Europe/Madrid")),
        Storage("time", pa.timestamp("s")),
        [datetime(2017, 3, 26, 12)],
    ),
    (pa.array([NOON.replace(microsecond=5)], pa.timestamp("us")), Storage("text"), ["2017-03-26 12:00:00.000005"]),
    (pa.array(["abc"]), Storage("text", length=3, is_padded=True), ["abc"]),
    (pa.array(["Previsión"]), Storage("text", codec="cp1252"), ["Previsión"]),
]
INEXACT = [
    (pa.array([1.5]), Storage("number", pa.int64())),
    (pa.array([1 << 31]), Storage("number", pa.int32())),
    (pa.array([-1]), Storage("number", pa.uint8())),
    (pa.array([(1 << 53) + 1]), Storage("number", pa.float64())),
    (pa.array([0.1]), Storage("number", pa.float32())),
    (pa.array([0.125]), DECIMAL),
    (pa.array([1e9]), DECIMAL),
    (pa.array([float("nan")]), Storage("number", pa.float64())),
    (pa.array([float("inf")]), Storage("number", pa.int64())),
    (pa.array([NOON.replace(microsecond=5)], pa.timestamp("us")), Storage("time", pa.timestamp("s"))),
    (pa.array([NOON.replace(microsecond=5)], pa.timestamp("us")), Storage("text", length=19)),
    (pa.array(["abcd"]), Storage("text", length=3)),
    (pa.array(["ab"]), Storage("text", length=3, is_padded=True)),
    (pa.array(["Łódź"]), Storage("text", codec="cp1252")),
]


def converted(values: pa.Array, storage: Storage) -> list[Any]:
    batch = pa.record_batch({"id": pa.array(range(len(values))), "value": values})
    column = TargetColumn("value", "value", storage, is_nullable=True)
    found: list[Any] = convert(batch, [column], ["id"])["value"].to_pylist()
    return found


@pytest.mark.parametrize(("values", "storage", "expected"), EXACT)
def test_values_that_fit_are_converted(values: pa.Array, storage: Storage, expected: list[Any]) -> None:
    assert accepts(values.type, storage)
    assert converted(values, storage) == expected


@pytest.mark.parametrize(("values", "storage"), INEXACT)
def test_values_that_do_not_fit_are_refused(values: pa.Array, storage: Storage) -> None:
    assert accepts(values.type, storage)
    with pytest.raises(
        SqlTargetError, match=r"cannot store the value .* exactly .the row id=0; such values in this chunk: 1"
    ):
        converted(values, storage)
