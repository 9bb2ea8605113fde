"""The distance formula, computed at memory bandwidth.

`distance` takes and returns arrays. numba compiles its kernel at the first call, not at import.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Kernel = Callable[[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], None]

PIECE = 1 << 18
"""Rows that a thread processes at a time. For fewer rows, a second thread costs more than it saves."""
FAR = 1e5
"""Largest angle for which the range reduction is exact. Beyond it, the C library's sine and cosine are used."""

_REAL = "fiu"
_TURNS = 0.15915494309189535  # 1 / (2 pi)
# 2 pi in two parts. The first has 39 bits, so that its product with an integer up to 2**14 is exact.
_CIRCLE = 6.283185307169333
_CIRCLE_REST = 1.0253376606378076e-11
# Adding and subtracting this number rounds to the nearest whole number.
_ROUNDER = 6755399441055744.0
# sin(r / 2) / r in powers of r**2 for |r| <= pi: the minimax polynomial, relative error below 1.5e-16.
_S0 = 0.49999999999999994
_S1 = -0.020833333333332458
_S2 = 0.0002604166666648725
_S3 = -1.550099204939258e-06
_S4 = 5.382288363533586e-09
_S5 = -1.2232358829799399e-11
_S6 = 1.958965409073435e-14
_S7 = -2.249347766146697e-17


def distance(latitude: ArrayLike, longitude: ArrayLike) -> NDArray[np.float64]:
    """Compute sin(latitude / 2)^2 + cos(latitude) * cos(longitude) * sin(longitude / 2)^2.

    This is the required formula. It is not the haversine, which needs two points. Angles are not converted from
    degrees to radians.

    Parameters
    ----------
    latitude
        Numbers of any shape, converted to float64.
    longitude
        Numbers of the same shape.

    Returns
    -------
    NDArray[np.float64]
        A new array of the same shape; NaN where an angle is NaN or infinite. The absolute error is at most 4e-15.

    Raises
    ------
    TypeError
        An argument contains values other than real numbers.
    ValueError
        The shapes differ.

    """
    import numpy as np

    angles = _numbers("latitude", latitude), _numbers("longitude", longitude)
    shapes = [angle.shape for angle in angles]
    if shapes[0] != shapes[1]:
        raise ValueError(
            f"latitude has shape {shapes[0]} and longitude has shape {shapes[1]}; the shapes must be equal"
        )
    result = np.empty(shapes[0])
    arrays = tuple(np.require(array, requirements=["C", "A"]).reshape(-1) for array in (*angles, result))
    _fill_in_pieces(_compiled(), arrays, result.size)
    return result


def _numbers(name: str, values: ArrayLike) -> NDArray[np.float64]:
    import numpy as np

    # Check the dtype before the conversion to float64, which would also parse texts. Values with a numeric dtype skip
    # the first `asarray`, because it would turn pandas' nullable columns into objects.
    found = values if _kind(values) in _REAL else np.asarray(values)
    if _kind(found) not in _REAL:
        raise TypeError(f"{name} has the dtype {np.asarray(found).dtype}; it must contain real numbers")
    return np.asarray(found, dtype=np.float64)


def _kind(values: object) -> str:
    kind: str = getattr(getattr(values, "dtype", None), "kind", "")
    return kind or "none"


def _fill_in_pieces(kernel: Kernel, arrays: tuple[NDArray[np.float64], ...], rows: int) -> None:
    starts = range(0, rows, PIECE)
    helpers = min(len(starts), _processors()) - 1
    if helpers <= 0:
        kernel(*arrays)
        return
    left = iter(starts)

    def fill() -> None:
        for start in left:
            kernel(*(array[start : start + PIECE] for array in arrays))

    # Use Python threads, because the kernel releases the GIL. numba's parallel loops would abort the process if it was
    # forked, or if two threads ran such a loop at once. Each thread takes the next
    # piece, so a busy core delays only one piece.
    with ThreadPoolExecutor(helpers) as pool:
        futures = [pool.submit(fill) for _ in range(helpers)]
        fill()
        for future in futures:
            future.result()


def _processors() -> int:
    # The processors that this process may use, if the system reports them.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@cache
def _compiled() -> Kernel:
    """Compile the kernel, or load it from numba's cache next to this file or in the user's cache folder."""
    from numba import njit, types
    from numba.extending import register_jitable

    options: dict[str, Any] = {
        "nogil": True,
        "error_model": "numpy",
        # Leave out `reassoc`, which would undo the range reduction, and `nnan`, which would break NaN.
        "fastmath": {"contract", "nsz", "arcp"},
    }
    register_jitable(_half_sine_squared)
    # Arrow's arrays are read-only, which the signature must allow.
    angles = types.Array(types.float64, 1, "C", readonly=True)
    signature = types.void(angles, angles, types.Array(types.float64, 1, "C"))
    try:
        kernel: Kernel = njit(signature, cache=True, **options)(_fill)
    except RuntimeError:
        # Without a writable cache folder, each process compiles the kernel.
        kernel = njit(signature, **options)(_fill)
    return kernel


def _half_sine_squared(x: float) -> float:
    """Return sin(x / 2)^2, which has the period 2 pi and the same form in all quadrants; NaN if x is not finite."""
    turns = (x * _TURNS + _ROUNDER) - _ROUNDER
    r = (x - turns * _CIRCLE) - turns * _CIRCLE_REST
    z = r * r
    sine = r * (_S0 + z * (_S1 + z * (_S2 + z * (_S3 + z * (_S4 + z * (_S5 + z * (_S6 + z * _S7)))))))
    return sine * sine


def _fill(latitude: NDArray[np.float64], longitude: NDArray[np.float64], result: NDArray[np.float64]) -> None:
    far = 0
    for i in range(latitude.size):
        a = _half_sine_squared(latitude[i])
        b = _half_sine_squared(longitude[i])
        # cos x = 1 - 2 sin(x / 2)^2
        result[i] = a + (1.0 - 2.0 * a) * (1.0 - 2.0 * b) * b
        # Count instead of branching, because a branch would prevent vectorisation.
        far += (abs(latitude[i]) > FAR) | (abs(longitude[i]) > FAR)
    if far == 0:
        return
    for i in range(latitude.size):
        if abs(latitude[i]) > FAR or abs(longitude[i]) > FAR:
            north, east = math.sin(latitude[i] / 2.0), math.sin(longitude[i] / 2.0)
            result[i] = north * north + math.cos(latitude[i]) * math.cos(longitude[i]) * (east * east)
