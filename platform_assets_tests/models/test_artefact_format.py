"""Golden rows survive serialisation exactly."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest
import skops.io
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.base.errors import ArtefactError
from platform_assets.models import artefact_format
from platform_assets_tests.models.small_models import (
    a_model,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.models.artefact_store import ArtefactStore

COLUMNS: Mapping[str, pd.Series[Any]] = {
    "floats": pd.Series([1.5, None, -0.0, 1e300, float("inf")]),
    "single": pd.Series([0.1, None], dtype="float32"),
    "whole": pd.Series([2**62 + 1, -1]),
    "small": pd.Series([1, 255], dtype="uint8"),
    "whole_with_nulls": pd.Series([2**62 + 1, None, -1], dtype="Int64"),
    "no_whole": pd.Series([None, None], dtype="Int64"),
    "masked_floats": pd.Series([0.5, None], dtype="Float64"),
    "masked_booleans": pd.Series([True, None], dtype="boolean"),
    "booleans": pd.Series([True, False]),
    "strings": pd.Series(["a", None, "", "Ünï\nc😀de\0"]),
    "nullable_strings": pd.Series(["a", None], dtype="string"),
    "no_strings": pd.Series([None, None], dtype="str"),
    "objects": pd.Series(["a", None, True, 0.5], dtype=object),
}


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize("kind", COLUMNS)
def test_golden_rows_round_trip_exactly(kind: str) -> None:
    column = COLUMNS[kind].rename("x")
    stored = skops.io.loads(skops.io.dumps([artefact_format.stored_column("x", column)]), trusted=["numpy.dtype"])
    pd.testing.assert_frame_equal(artefact_format.frame_of(stored), column.to_frame(), check_exact=True)


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1)), st.lists(st.none() | st.text()))
def test_nullable_columns_round_trip_exactly(numbers: list[int | None], texts: list[str | None]) -> None:
    for column in (pd.Series(numbers, dtype="Int64"), pd.Series(texts, dtype="str")):
        (back,) = (artefact_format.frame_of([artefact_format.stored_column("x", column)])[name] for name in ["x"])
        pd.testing.assert_series_equal(back, column.rename("x"), check_exact=True)


@pytest.mark.parametrize(
    "column", [pd.Series(pd.to_datetime(["2020-01-01"])), pd.Series(["a"], dtype="category"), pd.Series([[1]])]
)
def test_a_column_of_an_unsupported_type_is_refused(local: ArtefactStore, column: pd.Series[Any]) -> None:
    golden = a_model().golden_rows.head(1).assign(age=column)
    with pytest.raises(ArtefactError, match=re.escape(f"column age of the golden rows has the type {column.dtype}")):
        local.save(dataclasses.replace(a_model(), golden_rows=golden))
    assert local.digests() == []
