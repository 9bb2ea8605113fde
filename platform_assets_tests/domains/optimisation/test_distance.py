"""The distance formula: error against 50-digit arithmetic, special values, and the cache of the compiled code."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.domains.optimisation import distance as module
from platform_assets.domains.optimisation.distance import FAR, PIECE, distance

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

ERROR = 4e-15
NAN, INF = float("nan"), float("inf")
ANY_ANGLE = st.floats(-FAR, FAR) | st.floats(-7, 7) | st.floats(-1e-300, 1e-300) | st.floats(width=64)


def exact(latitude: float, longitude: float) -> mpmath.mpf:
    with mpmath.workdps(50 + 320):  # the angles may have 309 digits before the decimal point
        a, b = mpmath.mpf(latitude), mpmath.mpf(longitude)
        return mpmath.sin(a / 2) ** 2 + mpmath.cos(a) * mpmath.cos(b) * mpmath.sin(b / 2) ** 2


def random_angles(rows: int, seed: int = 7) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    random = np.random.default_rng(seed)
    return random.uniform(-90, 90, rows), random.uniform(-180, 180, rows)


@pytest.mark.requirement("OPT-1")
@given(ANY_ANGLE, ANY_ANGLE)
def test_the_error_for_generated_angles_is_within_the_documented_bound(latitude: float, longitude: float) -> None:
    found = float(distance(latitude, longitude))
    if np.isfinite(latitude) and np.isfinite(longitude):
        assert abs(exact(latitude, longitude) - found) <= ERROR
    else:
        assert np.isnan(found)


@pytest.mark.requirement("OPT-1")
@pytest.mark.parametrize("scale", [1e-300, 1e-9, 1.0, np.pi, 180.0, 1e4, FAR])
def test_the_error_for_random_angles_of_any_size_is_within_the_documented_bound(scale: float) -> None:
    random = np.random.default_rng(3)
    angles = random.uniform(-scale, scale, (2, 300))
    worst = max(
        abs(exact(a, b) - found)
        for a, b, found in zip(*angles.tolist(), distance(angles[0], angles[1]).tolist(), strict=True)
    )
    assert worst <= ERROR


@pytest.mark.requirement("OPT-1")
@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [
        (0.0, 0.0, 0.0),
        (-0.0, -0.0, 0.0),
        (np.pi, 0.0, 1.0),
        (np.pi, np.pi, 2.0),
        (0.0, np.pi, -1.0),
        (NAN, 1.0, NAN),
        (1.0, NAN, NAN),
        (INF, 1.0, NAN),
        (1.0, -INF, NAN),
        (5e-324, 5e-324, 0.0),
        # New York's coordinates in degrees. The tested formula does not convert them to radians, unlike haversine.
        (40.7, -74.0, np.sin(20.35) ** 2 + np.cos(40.7) * np.cos(-74.0) * np.sin(-37.0) ** 2),
    ],
)
def test_special_values_give_the_result_of_the_formula(latitude: float, longitude: float, expected: float) -> None:
    assert float(distance(latitude, longitude)) == pytest.approx(expected, abs=ERROR, nan_ok=True)


@pytest.mark.requirement("OPT-1")
def test_the_exact_fallback_is_used_only_for_rows_that_need_it() -> None:
    near, far = random_angles(1_000)[0], np.full(1_000, 1e17)
    mixed = np.where(np.arange(1_000) % 10 == 0, far, near)
    found = distance(mixed, mixed)
    assert (found[1::10] == distance(near, near)[1::10]).all()
    assert float(found[0]) == pytest.approx(float(exact(1e17, 1e17)), abs=ERROR)


@pytest.mark.requirement("OPT-1")
@pytest.mark.parametrize("rows", [0, 1, 7, PIECE, PIECE + 1, 2 * PIECE + 3])
def test_a_distance_does_not_depend_on_the_batch_size_or_on_threads(rows: int) -> None:
    latitude, longitude = random_angles(rows)
    found = distance(latitude, longitude)
    assert found.shape == (rows,)
    some = np.unique(np.linspace(0, rows - 1, 50, dtype=int)) if rows else np.zeros(0, int)
    assert (found[some] == distance(latitude[some], longitude[some])).all()
    assert not np.isnan(found).any()


def read_only(values: list[float]) -> NDArray[np.float64]:
    array = np.array(values)
    array.flags.writeable = False
    return array


def unaligned(values: list[float]) -> NDArray[np.float64]:
    return np.frombuffer(b"x" + np.array(values).tobytes(), np.float64, offset=1)


@pytest.mark.requirement("OPT-1")
@pytest.mark.parametrize(
    "form",
    [
        list,
        tuple,
        np.array,
        read_only,
        unaligned,
        pd.Series,
        pa.array,
        lambda values: np.array(values * 2)[::2][: len(values)],
        lambda values: np.array(values, dtype=">f8"),
        lambda values: np.asfortranarray([values, values]),
        lambda values: np.array(values)[:, None][:, [0, 0]][:, ::-1],
    ],
)
def test_any_array_of_numbers_is_accepted(form: Any) -> None:
    given_numbers = form([1.0, 2.0, -3.5, 4.0])
    values = np.asarray(given_numbers, dtype=float)
    expected = np.sin(values / 2) ** 2 + np.cos(values) ** 2 * np.sin(values / 2) ** 2
    found = distance(given_numbers, given_numbers)
    assert found.dtype == np.float64
    assert found.shape == values.shape
    assert np.abs(found - expected).max() <= ERROR


@pytest.mark.parametrize(
    ("latitude", "longitude", "expected"),
    [([1, 2], [3, 4], 2), (np.array([1.5], "f4"), np.array([2], "i1"), 1), (np.zeros((2, 3)), np.zeros((2, 3)), 6)],
)
def test_other_number_types_are_converted_to_floats(latitude: Any, longitude: Any, expected: int) -> None:
    assert distance(latitude, longitude).size == expected


@pytest.mark.parametrize("dtype", ["Float64", "Int64", "double[pyarrow]"])
def test_missing_pandas_values_give_nan(dtype: str) -> None:
    found = distance(pd.Series([1, None, 3], dtype=dtype), pd.Series([1, 2, None], dtype=dtype))
    assert np.isnan(found).tolist() == [False, True, True]


def test_arguments_are_not_changed_and_the_result_is_a_new_array() -> None:
    latitude = np.array([1.0, 2.0])
    found = distance(latitude, latitude)
    assert latitude.tolist() == [1.0, 2.0]
    assert not np.shares_memory(found, latitude)


@pytest.mark.parametrize(
    ("latitude", "longitude", "error", "said"),
    [
        ([1.0, 2.0], [1.0], ValueError, r"latitude has shape \(2,\) and longitude has shape \(1,\)"),
        ([[1.0]], [1.0], ValueError, "the shapes must be equal"),
        (1.0, [1.0], ValueError, "the shapes must be equal"),
        (["1.0"], [1.0], TypeError, "latitude has the dtype <U3; it must contain real numbers"),
        ([1.0], [None], TypeError, "longitude has the dtype object"),
        ([1j], [1.0], TypeError, "latitude has the dtype complex128"),
        ([True], [1.0], TypeError, "latitude has the dtype bool"),
    ],
)
def test_arguments_of_other_types_or_unequal_shapes_are_rejected(
    latitude: Any, longitude: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        distance(latitude, longitude)


# Compiling

CALL = """
import json, sys
import copied_module
assert "numba" not in sys.modules, "compiled at import"
value = float(copied_module.distance(1.0, 2.0))
stats = copied_module._compiled().stats
print(json.dumps([value, sum(stats.cache_hits.values()), sum(stats.cache_misses.values())]))
"""


def call(folder: Path, home: Path) -> list[float]:
    """Run the formula in a new process. Return its result, the number of cache hits and the number of compilations."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("NUMBA", "XDG"))}
    done = subprocess.run(
        [sys.executable, "-B", "-c", CALL],
        env=environment | {"HOME": str(home), "PYTHONPATH": str(folder)},
        check=True,
        capture_output=True,
        text=True,
    )
    values: list[float] = json.loads(done.stdout)
    return values


def copy_of_module(folder: Path) -> Path:
    folder.mkdir()
    shutil.copy(str(module.__file__), folder / "copied_module.py")
    return folder


def occupied(path: Path) -> Path:
    # Put a file in place of the folder, so that not even root can write into it.
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")
    return path


@pytest.mark.requirement("OPT-1")
def test_the_kernel_is_compiled_once_and_cached_next_to_the_module(tmp_path: Path) -> None:
    folder, home = copy_of_module(tmp_path / "package"), tmp_path / "home"
    first, second = call(folder, home), call(folder, home)
    assert first[0] == second[0] == float(distance(1.0, 2.0))
    assert (first[1:], second[1:]) == ([0, 1], [1, 0])
    assert list((folder / "__pycache__").glob("*.nbi"))
    assert not home.exists()


@pytest.mark.requirement("OPT-1")
def test_the_kernel_of_a_read_only_package_is_cached_in_the_users_home(tmp_path: Path) -> None:
    folder, home = copy_of_module(tmp_path / "package"), tmp_path / "home"
    occupied(folder / "__pycache__")
    first, second = call(folder, home), call(folder, home)
    assert (first[1:], second[1:]) == ([0, 1], [1, 0])
    assert list(home.rglob("*.nbi"))


@pytest.mark.requirement("OPT-1")
def test_the_kernel_works_without_a_writable_cache(tmp_path: Path) -> None:
    folder, home = copy_of_module(tmp_path / "package"), occupied(tmp_path / "home")
    occupied(folder / "__pycache__")
    assert call(folder, home)[0] == float(distance(1.0, 2.0))
