"""A fitted binary classifier: what it is made of, and how it scores rows of a table or a service.

How it becomes a file is in `artefact_format.py`.
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
from platform_assets.models.thread_limits import loaded_libraries

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.models.compiled_pipeline import Arithmetic

    Vectors = Frame | NDArray[np.float64]

LOG = logging.getLogger(__name__)
GOLDEN_ROWS = 100
"""Rows that a model carries with their scores."""
ROWS_AT_ONCE = 16
"""Rows are scored in whole blocks of so many; the last row fills up.

What is left over of a block a BLAS adds in another order than the rest: the last bit of a client's score would
depend on how many others were asked for with it.
"""
_LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "skops")
_LONGEST_REASON = 500


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A fitted binary classifier, and what it takes to know it again. Once it has scored, nothing of it is changed.

    Attributes
    ----------
    estimator
        scikit-learn's; its `predict_proba` gives (n, 2). It takes a frame of the features; if all are numbers and it
        has no `feature_names_in_`, a matrix (n, features).
    features
        Names of the columns, in the order in which it was fitted.
    golden_rows
        Some rows (`GOLDEN_ROWS` by custom) with just those columns: booleans, numbers or strings.
    golden_scores
        (rows,) float64: the scores of those rows when it was trained.
    libraries
        Library to the version that trained it; see `library_versions`.
    """

    estimator: Any
    features: tuple[str, ...]
    golden_rows: Frame
    golden_scores: NDArray[np.float64]
    libraries: Mapping[str, str]

    def scores(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """Probability of the positive class, (n,) float64, on one thread.

        Parameters
        ----------
        rows
            As for `vectors`.

        Raises
        ------
        ArtefactError
            A feature is missing, or a value is not of its type.
        """
        # On a machine that does other work as well, more threads wait for each other (13 times as long, measured).
        with loaded_libraries().limit(limits=1):
            return self.scores_unlimited(rows)

    def scores_unlimited(self, rows: Frame | Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
        """The same on as many threads as there are: for a thread that keeps to itself, see `keep_to_one_thread`."""
        import numpy as np

        count = len(rows)
        if not count:
            return np.empty(0)
        beyond = -count % ROWS_AT_ONCE
        if beyond and self._only_numbers and isinstance(rows, Sequence):
            # Before they are a frame, which takes long to lengthen.
            rows, beyond = [*rows, *[rows[-1]] * beyond], 0
        vectors = self.vectors(rows)
        if beyond:
            vectors = self._filled_up(vectors, beyond)
        try:
            scores = self._positive(vectors)[:count]
        except (TypeError, ValueError) as error:
            raise ArtefactError(f"the model cannot score these rows: {one_line(error)}") from None
        return np.asarray(scores, dtype=np.float64)

    def vectors(self, rows: Frame | Sequence[Mapping[str, Any]]) -> Vectors:
        """What the estimator takes, (n, features): the same from a table's reader and from a service.

        Parameters
        ----------
        rows
            A frame with the features among its columns, in any order, which is not changed; or a mapping for each
            row, with plain values and None where there is none.

        Raises
        ------
        ArtefactError
            A feature is missing, or a value is not of its type.
        """
        import numpy as np
        import pandas as pd

        try:
            if not isinstance(rows, pd.DataFrame):
                return self._of_rows(rows)
            # A table's reader and a service have the same numbers in other forms: with nulls as NA or None.
            typed = rows[list(self.features)].astype(self._types)
            return self._of_numbers(np.array(typed.to_numpy().T, order="C")) if self._only_numbers else typed
        except (TypeError, ValueError, OverflowError) as error:
            raise ArtefactError(f"a value does not fit its feature's type: {one_line(error)}") from None
        except KeyError:
            columns = [set(rows.columns)] if isinstance(rows, pd.DataFrame) else [set(row) for row in rows]
            missing = [name for name in self.features if not all(name in there for there in columns)]
            raise ArtefactError(f"the columns {missing} are missing; the model needs {list(self.features)}") from None

    def _positive(self, vectors: Vectors) -> NDArray[np.float64]:
        import numpy as np
        from sklearn import config_context

        from platform_assets.models.compiled_pipeline import FAR_FROM_INFINITE

        if not isinstance(vectors, np.ndarray):
            return self._asked(vectors)
        size = np.abs(vectors)
        # scikit-learn's steps each look for missing and infinite numbers; where none are or can become, they need not.
        with config_context(assume_finite=bool((size < FAR_FROM_INFINITE).all())):
            if self._arithmetic is not None and not (size >= FAR_FROM_INFINITE).any():
                # Why there is no score, the estimator tells better.
                with suppress(ValueError):
                    return self._arithmetic(vectors)
            return self._asked(vectors)

    def _asked(self, vectors: Vectors) -> NDArray[np.float64]:
        scores: NDArray[np.float64] = self.estimator.predict_proba(vectors)[:, 1]
        return scores

    @cached_property
    def _arithmetic(self) -> Arithmetic | None:
        """The estimator in less time, if it gives the golden rows the same scores, to the last bit."""
        import numpy as np

        from platform_assets.models.compiled_pipeline import arithmetic_of

        try:
            arithmetic, rows = arithmetic_of(self.estimator), self.vectors(self.golden_rows)
            if arithmetic is None or not isinstance(rows, np.ndarray):
                return None
            found, expected = arithmetic(rows.copy(order="K")), self._asked(rows)
        except Exception:  # noqa: BLE001 - an estimator that cannot score these says so when it is asked itself
            return None
        if np.array_equal(found, expected):
            return arithmetic
        LOG.warning(
            "scikit-learn %s calculates this pipeline otherwise than we do: its scores take longer",
            version("scikit-learn"),
        )
        return None

    def _filled_up(self, vectors: Vectors, beyond: int) -> Vectors:
        """The vectors, and so many others after them that are known to be good."""
        import numpy as np
        import pandas as pd

        if isinstance(vectors, pd.DataFrame) and not self._only_numbers:
            return pd.concat([vectors, self._short_rows.iloc[:beyond]], ignore_index=True)
        # pandas would lay one row, many times, out in another order than several.
        values = np.asarray(vectors).T
        filled = np.concatenate([values, np.repeat(values[:, -1:], beyond, axis=1)], axis=1)
        return self._of_numbers(np.ascontiguousarray(filled))

    @cached_property
    def _short_rows(self) -> Frame:
        # Time grows with the text: the last row again and again would take fifty times as long as it alone.
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
        # Whoever takes a matrix cannot tell whether its columns are the right ones: once they are shown by name.
        self.estimator.predict_proba(self.golden_rows[list(self.features)].head(1))
        return False

    def _of_rows(self, rows: Sequence[Mapping[str, Any]]) -> Vectors:
        import numpy as np
        import pandas as pd

        if self._only_numbers:
            # A hundred times as fast as by a frame of objects, and a service has one row at a time.
            return self._of_numbers(np.array([[row[name] for row in rows] for name in self.features], dtype=np.float64))
        return pd.DataFrame(
            {name: _typed_values([row[name] for row in rows], kind) for name, kind in self._types.items()}
        )

    def _of_numbers(self, values: NDArray[np.float64]) -> Vectors:
        """Numbers (features, n) as the estimator takes them, in memory always in the same order: sums depend on it."""
        import pandas as pd

        return pd.DataFrame(values.T, columns=self._columns, copy=False) if self._takes_names else values.T


def import_libraries() -> None:
    """Import what loading and scoring take, which is seconds the first time."""
    import pandas as pd  # noqa: F401 - loaded, not used
    import sklearn.compose
    import sklearn.ensemble
    import sklearn.linear_model
    import sklearn.pipeline  # noqa: F401 - loaded, not used

    import platform_assets.models.compiled_pipeline  # noqa: F401 - loaded, not used


def library_versions() -> dict[str, str]:
    """The installed versions of Python and the libraries that a model's scores depend on."""
    return {"python": python_version(), **{name: version(name) for name in _LIBRARIES}}


def one_line(error: BaseException) -> str:
    """Return an error's type and reason on one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]


def _typed_values(values: list[Any], kind: Any) -> Any:
    """Plain values as a column; the same as of a frame that is cast, in less time for texts."""
    import pandas as pd

    if pd.api.types.is_extension_array_dtype(kind):
        return pd.array(values, dtype=kind)
    return pd.Series(values, dtype=object).astype(kind)
