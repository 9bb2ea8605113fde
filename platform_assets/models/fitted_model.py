"""A fitted model, and how it scores rows from a table or a service.

`artefact_format.py` serialises it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from platform import python_version
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError
from platform_assets.models.outputs import PROBABILITY, by_column
from platform_assets.models.thread_limits import loaded_libraries

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.models.compiled_pipeline import Arithmetic
    from platform_assets.models.outputs import Output

    Vectors = Frame | NDArray[np.float64]

LOG = logging.getLogger(__name__)
GOLDEN_ROWS = 100
"""Number of golden rows: rows that an artefact contains with their scores."""
ROWS_AT_ONCE = 16
"""Scoring pads the rows to a multiple of this number, usually by repeating the last row.

BLAS sums an incomplete block in another order. Without padding, the last bit of a score would depend on the number of
rows in the request.
"""
_LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "skops")
_LONGEST_REASON = 500


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A fitted model with its golden rows. Do not change its attributes after the first scoring.

    Attributes
    ----------
    estimator
        A scikit-learn estimator with the method that `output` calls. It takes a frame of the features, or a matrix
        (n, features) if all features are float64 and it has no `feature_names_in_`.
    features
        Column names in the order of the fit.
    golden_rows
        Usually `GOLDEN_ROWS` rows, with exactly the columns in `features`, which are booleans, numbers or strings.
    golden_scores
        Output for the golden rows in training, float64: (rows,) for one number per row, else (rows, columns).
    libraries
        Version of each library in training, as `library_versions` returns them.
    training_ranges
        Smallest and largest value of each numeric feature in the training rows. A feature whose values are all missing
        has no range. None for artefacts of older versions, which do not contain ranges.
    output
        The numbers that the model gives per row, which depend on its task.
    """

    estimator: Any
    features: tuple[str, ...]
    golden_rows: Frame
    golden_scores: NDArray[np.float64]
    libraries: Mapping[str, str]
    training_ranges: Mapping[str, tuple[float, float]] | None = None
    output: Output = PROBABILITY

    def scores(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return the prediction for each row, (n,) float64: the probability of the positive class, or the value.

        Parameters
        ----------
        rows
            As for `vectors`.

        Raises
        ------
        ArtefactError
            A feature is missing, or a value does not fit its feature's type.
        """
        found = self.outputs(rows)
        return found if found.ndim == 1 else found[:, 0]

    def predict(self, rows: Frame | Sequence[Mapping[str, Any]]) -> dict[str, NDArray[np.float64]]:
        """Return one array (n,) of float64 per output name; see `outputs.py` for the names.

        Raises
        ------
        ArtefactError
            A feature is missing, or a value does not fit its feature's type.
        """
        return by_column(self.output, self.outputs(rows))

    def outputs(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Return all outputs for each row, float64, using one BLAS and OpenMP thread.

        Parameters
        ----------
        rows
            As for `vectors`.

        Returns
        -------
        (n,) for a model with one number per row, else (n, columns of the output).

        Raises
        ------
        ArtefactError
            A feature is missing, or a value does not fit its feature's type.
        """
        # More threads took 13 times as long on a busy machine (measured), because they wait for each other.
        with loaded_libraries().limit(limits=1):
            return self.outputs_unlimited(rows)

    def outputs_unlimited(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Do the same as `outputs`, for a thread that has already called `keep_to_one_thread`. No limit is set here."""
        import numpy as np

        count = len(rows)
        if not count:
            return np.empty((0, *self.golden_scores.shape[1:]))
        beyond = -count % ROWS_AT_ONCE
        if beyond and self._only_numbers and isinstance(rows, Sequence):
            # Pad the list of rows, because appending rows to a frame is slow.
            rows, beyond = [*rows, *[rows[-1]] * beyond], 0
        vectors = self.vectors(rows)
        if beyond:
            vectors = self._filled_up(vectors, beyond)
        try:
            scores = self._asked(vectors)[:count]
        except (TypeError, ValueError) as error:
            raise ArtefactError(f"the model cannot score these rows: {one_line(error)}") from None
        return np.asarray(scores, dtype=np.float64)

    def outside_training_range(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.bool_] | None:
        """Return which rows have a numeric feature below its smallest or above its largest training value, (n,).

        None if the ranges are unknown, or if no feature is numeric. A missing value is not outside the range.

        Parameters
        ----------
        rows
            As for `vectors`.

        Raises
        ------
        ArtefactError
            A feature is missing, or a value does not fit its feature's type.
        """
        import numpy as np

        if not self.training_ranges:
            return None
        vectors = self.vectors(rows)
        outside = np.zeros(len(rows), dtype=np.bool_)
        for name, (low, high) in self.training_ranges.items():
            if isinstance(vectors, np.ndarray):
                values = vectors[:, self.features.index(name)]
            else:
                values = vectors[name].to_numpy(dtype=np.float64)
            outside |= (values < low) | (values > high)
        return outside

    def vectors(self, rows: Frame | Sequence[Mapping[str, Any]]) -> Vectors:
        """Return the estimator's input, (n, features). A frame and mappings with equal values give equal inputs.

        Parameters
        ----------
        rows
            A frame that has the features among its columns, in any order, and is not changed; or one mapping per row
            with plain values and None for missing values.

        Raises
        ------
        ArtefactError
            A feature is missing, or a value does not fit its feature's type.
        """
        import numpy as np
        import pandas as pd

        try:
            if not isinstance(rows, pd.DataFrame):
                return self._of_rows(rows)
            # Missing numbers are NA in frames from a table and None in requests to the service.
            typed = rows[list(self.features)].astype(self._types)
            return self._of_numbers(np.array(typed.to_numpy().T, order="C")) if self._only_numbers else typed
        except (TypeError, ValueError, OverflowError) as error:
            raise ArtefactError(f"a value does not fit its feature's type: {one_line(error)}") from None
        except KeyError:
            columns = [set(rows.columns)] if isinstance(rows, pd.DataFrame) else [set(row) for row in rows]
            missing = [name for name in self.features if not all(name in there for there in columns)]
            raise ArtefactError(f"the columns {missing} are missing; the model needs {list(self.features)}") from None

    def _asked(self, vectors: Vectors) -> NDArray[np.float64]:
        import numpy as np
        from sklearn import config_context

        from platform_assets.models.compiled_pipeline import FAR_FROM_INFINITE

        if not isinstance(vectors, np.ndarray):
            return self.output.ask(self.estimator, vectors)
        size = np.abs(vectors)
        # Skip scikit-learn's search for NaN and infinity if no step can encounter them.
        with config_context(assume_finite=bool((size < FAR_FROM_INFINITE).all())):
            if self._arithmetic is not None and not (size >= FAR_FROM_INFINITE).any():
                # Ignore this error, because the estimator below raises one with a better message.
                with suppress(ValueError):
                    return self._arithmetic(vectors)
            return self.output.ask(self.estimator, vectors)

    @cached_property
    def _arithmetic(self) -> Arithmetic | None:
        """Return the compiled estimator if it gives the golden rows bit-identical scores, else None."""
        import numpy as np

        from platform_assets.models.compiled_pipeline import arithmetic_of

        try:
            arithmetic, rows = arithmetic_of(self.estimator), self.vectors(self.golden_rows)
            if arithmetic is None or not isinstance(rows, np.ndarray):
                return None
            found, expected = arithmetic(rows.copy(order="K")), self.output.ask(self.estimator, rows)
        except Exception:  # noqa: BLE001 - scoring with the estimator itself raises the error again
            return None
        if np.array_equal(found, expected):
            return arithmetic
        LOG.warning(
            "the compiled pipeline gives different scores than scikit-learn %s; using scikit-learn, which is slower",
            version("scikit-learn"),
        )
        return None

    def _filled_up(self, vectors: Vectors, beyond: int) -> Vectors:
        """Pad the vectors with valid rows. `beyond` is the number of rows to append."""
        import numpy as np
        import pandas as pd

        if isinstance(vectors, pd.DataFrame) and not self._only_numbers:
            return pd.concat([vectors, self._short_rows.iloc[:beyond]], ignore_index=True)
        # Repeat the row with NumPy, because pandas would use another memory layout for a single row.
        values = np.asarray(vectors).T
        filled = np.concatenate([values, np.repeat(values[:, -1:], beyond, axis=1)], axis=1)
        return self._of_numbers(np.ascontiguousarray(filled))

    @cached_property
    def _short_rows(self) -> Frame:
        # Pad with the shortest text, because scoring a long text again would take up to fifty times as long.
        texts = self.golden_rows[list(self.features)]
        lengths = texts.select_dtypes(["str", "object"]).astype("str").apply(lambda text: text.str.len()).sum(axis=1)
        return texts.iloc[[int(lengths.to_numpy().argmin())] * ROWS_AT_ONCE]

    @cached_property
    def _types(self) -> dict[str, Any]:
        return {name: self.golden_rows.dtypes[name] for name in self.features}

    @cached_property
    def _only_numbers(self) -> bool:
        return all(kind == "float64" for kind in self._types.values())

    @cached_property
    def _columns(self) -> pd.Index[str]:
        import pandas as pd

        return pd.Index(self.features)

    @cached_property
    def _takes_names(self) -> bool:
        if not self._only_numbers or hasattr(self.estimator, "feature_names_in_"):
            return True
        # An estimator cannot check the column names of a matrix, so check them once with a named frame.
        self.output.ask(self.estimator, self.golden_rows[list(self.features)].head(1))
        return False

    def _of_rows(self, rows: Sequence[Mapping[str, Any]]) -> Vectors:
        import numpy as np
        import pandas as pd

        if self._only_numbers:
            # An array is a hundred times as fast as a frame of objects, which matters for the single rows of a service.
            return self._of_numbers(np.array([[row[name] for row in rows] for name in self.features], dtype=np.float64))
        return pd.DataFrame(
            {name: _typed_values([row[name] for row in rows], kind) for name, kind in self._types.items()}
        )

    def _of_numbers(self, values: NDArray[np.float64]) -> Vectors:
        """Convert numbers (features, n) to the estimator's input. Keep the memory order, because it affects sums."""
        import pandas as pd

        return pd.DataFrame(values.T, columns=self._columns, copy=False) if self._takes_names else values.T


def import_libraries() -> None:
    """Import the libraries for loading and scoring, which takes seconds."""
    import pandas as pd  # noqa: F401 - loaded, not used
    import sklearn.compose
    import sklearn.ensemble
    import sklearn.linear_model
    import sklearn.pipeline  # noqa: F401 - loaded, not used

    import platform_assets.models.compiled_pipeline  # noqa: F401 - loaded, not used


def library_versions() -> dict[str, str]:
    """Return the installed versions of Python and of the libraries that scores depend on."""
    return {"python": python_version(), **{name: version(name) for name in _LIBRARIES}}


def one_line(error: BaseException) -> str:
    """Return an error's type and reason on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]


def _typed_values(values: list[Any], kind: Any) -> Any:
    """Return plain values as a typed column, faster than casting a frame."""
    import pandas as pd

    if pd.api.types.is_extension_array_dtype(kind):
        return pd.array(values, dtype=kind)
    return pd.Series(values, dtype=object).astype(kind)
