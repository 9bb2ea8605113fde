"""Fitted models as files that are written once, named by their digest; and the one loader for everybody.

A file is a skops dump, which says what to build instead of running code as a pickle does. It carries rows
with the scores that the model gave them when it was trained, so that whoever loads it knows that it still
does. What a model is called, and which one is live, is the registry's matter (`registry.py`).
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import os
import re
import threading
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from platform import python_version
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError
from platform_assets.base.logs import redact, shown
from platform_assets.engine.query_engine import is_full

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    import pandas as pd
    import pyarrow.fs as pafs
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.models.compiled_pipeline import Arithmetic

    Vectors = Frame | NDArray[np.float64]

LOG = logging.getLogger(__name__)
FOLDER = "models"
"""Where the files are, below the lake."""
GOLDEN_ROWS = 100
"""Rows that a model carries with their scores."""
ROWS_AT_ONCE = 16
"""Rows are scored in whole blocks of so many; the last row fills up.

What is left over of a block a BLAS adds in another order than the rest: the last bit of a client's score would
depend on how many others were asked for with it.
"""
FAR_FROM_INFINITE = 2.0**53
"""Numbers below it are not infinite after a step either, not even in single precision, where trees compare."""
TOLERANCE = 1e-9
"""Largest difference of a score that passes as the same model.

Another processor or BLAS adds in another order, which moves a probability by about 1e-15; another algorithm, or
one damaged parameter, moves it by far more than this.
"""
TRUSTED_TYPES = (
    # Beyond the public estimators of scikit-learn, which skops trusts. Data and estimators only: no function,
    # nor `functools.partial`, for those are called when the model is used. Trees hold indices that nobody checks
    # against their bounds; that they were not altered, the digest says.
    "numpy.dtype",
    "platform_assets.models.calibration.CalibratedEstimator",
    "platform_assets.models.number_estimators.NumberColumns",
    "platform_assets.models.text_estimators.CompactTfidf",
    "platform_assets.models.text_estimators.TextCleaner",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.gaussian_process.kernels.Sum",
    "sklearn.gaussian_process.kernels.WhiteKernel",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.tree._tree.Tree",
)
"""Types that a model may consist of, by their full names."""
STABLE_MODULES = (
    "platform_assets.models.calibration",
    "platform_assets.models.number_estimators",
    "platform_assets.models.text_estimators",
)
"""Modules whose classes artefacts name by path: a class moves out of them only with an entry in `MOVED`."""
MOVED = {
    "platform_assets.core.calibration.CalibratedEstimator": "platform_assets.models.calibration.CalibratedEstimator",
    "platform_assets.core.number_estimators.NumberColumns": "platform_assets.models.number_estimators.NumberColumns",
    "platform_assets.core.text_estimators.CompactTfidf": "platform_assets.models.text_estimators.CompactTfidf",
    "platform_assets.core.text_estimators.TextCleaner": "platform_assets.models.text_estimators.TextCleaner",
}
"""Where a class is now, by the path under which older artefacts name it. Entries stay for ever."""
_LIMITED = threading.local()
_LIBRARIES = ("numpy", "pandas", "scipy", "scikit-learn", "skops")
_FIELDS = {"estimator", "features", "golden_rows", "golden_scores", "libraries"}
_SUFFIX = ".skops"
_SCHEMA = "schema.json"
_DIGEST = re.compile("[0-9a-f]{64}")
_TELLING = re.compile(r"secret|key|token|password|credential|sas", re.IGNORECASE)
# As for tables: a store that is down should be reported before delta-rs' own 3 minutes.
_PATIENCE = {"retry_timeout": "20s", "connect_timeout": "5s"}
_LONGEST_REASON = 500
_TRAIN_AGAIN = "train the model again, which stores a new one"


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
        with _threads().limit(limits=1):
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
            raise ArtefactError(f"the model cannot score these rows: {_told(error)}") from None
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
            raise ArtefactError(f"a value does not fit its feature's type: {_told(error)}") from None
        except KeyError:
            columns = [set(rows.columns)] if isinstance(rows, pd.DataFrame) else [set(row) for row in rows]
            missing = [name for name in self.features if not all(name in there for there in columns)]
            raise ArtefactError(f"the columns {missing} are missing; the model needs {list(self.features)}") from None

    def _positive(self, vectors: Vectors) -> NDArray[np.float64]:
        import numpy as np
        from sklearn import config_context

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


def keep_to_one_thread() -> None:
    """Let the libraries work for this thread in no other one, for good; they have to be loaded.

    For a service: its requests are scored at the same time, and limits that each sets and takes back cross. OpenMP has
    a limit for each thread that calls it. BLAS has one for the process, which the first thread here sets.
    """
    if not hasattr(_LIMITED, "limits"):
        _LIMITED.limits = _threads().limit(limits=1)


def library_versions() -> dict[str, str]:
    """The installed versions of Python and the libraries that a model's scores depend on."""
    return {"python": python_version(), **{name: version(name) for name in _LIBRARIES}}


def dump(model: FittedModel) -> bytes:
    """A model as the bytes of its file.

    The bytes differ from one dump to the next, as skops writes the objects' addresses.

    Raises
    ------
    ArtefactError
        A column of the golden rows is of a type that is not kept.
    """
    import skops.io

    parts = {
        "estimator": model.estimator,
        "features": list(model.features),
        "golden_rows": [_column(name, model.golden_rows[name]) for name in model.features],
        "golden_scores": model.golden_scores,
        "libraries": dict(model.libraries),
    }
    dumped: bytes = skops.io.dumps(parts, compression=zipfile.ZIP_DEFLATED)
    return dumped


class ArtefactStore:
    """The model files below one location, `models/<sha256>.skops`. None is ever changed.

    Parameters
    ----------
    uri
        A folder, or an object store's URI; where the lake is.
    storage_options
        Options for the object store; its usual environment variables count as well, as they do for tables.
    """

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        path = uri.removeprefix("file://")
        self._is_remote = "://" in path
        self._root = f"{path.rstrip('/') if self._is_remote else Path(path).absolute()}/{FOLDER}"
        self._options = (_PATIENCE if self._is_remote else {}) | dict(storage_options or {})

    def save(self, model: FittedModel) -> str:
        """Store a model, if `load` would give it back; its digest.

        Raises
        ------
        ArtefactError
            It could not be loaded again, or the store cannot be written.
        """
        data = dump(model)
        _opened(data, "the fitted model cannot be stored: it")
        return self.add(data)

    def load(self, digest: str) -> FittedModel:
        """Open a model after it has proved to be the one that was stored.

        Raises
        ------
        ArtefactError
            It is missing, was altered, is no skops file, holds types that are not in `TRUSTED_TYPES`, or scores
            its golden rows differently. Nothing of it was run in the first four cases.
        """
        return _opened(self.read(digest), self._called(digest))

    def add(self, data: bytes) -> str:
        """Store the bytes of a model's file under their digest, all or nothing; the digest.

        Raises
        ------
        ArtefactError
            The store cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        if self.exists(digest):
            return digest
        with self._plain_errors(f"{digest} was not stored"):
            if self._is_remote:
                self._put(digest + _SUFFIX, data)
            else:
                _write(Path(self._root) / (digest + _SUFFIX), data)
        return digest

    def read(self, digest: str) -> bytes:
        """The bytes of a model's file, as they were stored.

        Raises
        ------
        ArtefactError
            It is missing, was altered, or the store cannot be reached.
        """
        self._require(digest)
        with self._plain_errors(f"{digest} cannot be read"), self._files.open_input_file(digest + _SUFFIX) as file:
            data: bytes = file.read()
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise ArtefactError(
                f"{self._called(digest)} was altered: the digest of its {len(data)} bytes is {found}; restore the "
                f"file from a copy, or {_TRAIN_AGAIN}"
            )
        return data

    def exists(self, digest: str) -> bool:
        """Whether a model is stored.

        Raises
        ------
        ArtefactError
            It is no digest, or the store cannot be reached.
        """
        return bool(self._info(digest).is_file)

    def size(self, digest: str) -> int:
        """Bytes of a model's file.

        Raises
        ------
        ArtefactError
            It is missing, or the store cannot be reached.
        """
        return int(self._require(digest).size)

    def digests(self) -> list[str]:
        """The stored models, in the order of their digests.

        Raises
        ------
        ArtefactError
            The store cannot be reached.
        """
        import pyarrow.fs as pafs

        with self._plain_errors("the models cannot be listed"):
            found = self._files.get_file_info(pafs.FileSelector("", allow_not_found=True))
        names = (info.base_name.removesuffix(_SUFFIX) for info in found if info.base_name.endswith(_SUFFIX))
        return sorted(name for name in names if _DIGEST.fullmatch(name))

    @cached_property
    def _files(self) -> pafs.FileSystem:
        import pyarrow.fs as pafs

        if not self._is_remote:
            return pafs.SubTreeFileSystem(self._root, pafs.LocalFileSystem())
        from deltalake.fs import DeltaStorageHandler

        return pafs.PyFileSystem(DeltaStorageHandler(self._root, self._options))

    def _info(self, digest: str) -> pafs.FileInfo:
        if not _DIGEST.fullmatch(digest):
            raise ArtefactError(f"{digest!r} is no digest of a model, 64 hexadecimal digits in lower case")
        with self._plain_errors(f"{digest} cannot be looked for"):
            return self._files.get_file_info(digest + _SUFFIX)

    def _require(self, digest: str) -> pafs.FileInfo:
        info = self._info(digest)
        if not info.is_file:
            raise ArtefactError(f"{self._called(digest)} is not there; restore the file from a copy, or {_TRAIN_AGAIN}")
        return info

    def _called(self, digest: str) -> str:
        return f"the model file {digest}{_SUFFIX} in {shown(self._root)}"

    def _put(self, name: str, data: bytes) -> None:
        # Held in Arrow's own buffer until the end: delta-rs takes bytes, and Arrow would hand on what it is given.
        with self._files.open_output_stream(name, buffer_size=len(data) + 1) as stream:
            stream.write(data)
        # Arrow drops the errors of closing, and a small file is sent only then.
        found = self._files.get_file_info(name).size
        if found != len(data):
            raise OSError(f"the store refused it or cut it off: {found or 0} of {len(data)} bytes are there")

    @contextmanager
    def _plain_errors(self, outcome: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = shown(self._root)
            if is_full(error):
                raise ArtefactError(f"{outcome}: no space left on {where}; make some and run again") from None
            secrets = [value for key, value in self._options.items() if _TELLING.search(key)]
            plain = redact(shown(re.sub(r"\x1b\[[0-9;]*m", "", str(error))), secrets)
            reason = " ".join(plain.replace("↳", " ").split())[:_LONGEST_REASON]
            raise ArtefactError(f"{outcome}, in {where}: {reason}") from None


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            # A name that outlives a loss of power must not stand for a file that did not.
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def _opened(data: bytes, called: str) -> FittedModel:
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    if not _is_skops(data):
        raise ArtefactError(
            f"{called} is no skops file: a pickle or something else is in its place, and was not opened; {_TRAIN_AGAIN}"
        )
    current = _with_current_paths(data)
    try:
        # It looks at all types before it builds anything.
        parts = skops.io.loads(current, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException:
        untrusted = sorted(set(skops.io.get_untrusted_types(data=current)) - set(TRUSTED_TYPES))
        raise ArtefactError(
            f"{called} holds types that the platform does not trust: {untrusted}; build the model without them, "
            f"and {_TRAIN_AGAIN}"
        ) from None
    except Exception as error:  # noqa: BLE001 - a dump of another version, or a forged one, fails in any way
        raise ArtefactError(
            f"{called} cannot be read by skops {version('skops')} ({_told(error)}); {_TRAIN_AGAIN}"
        ) from None
    if not isinstance(parts, dict) or not parts.keys() >= _FIELDS:
        raise ArtefactError(f"{called} holds no model of the platform, but something else; {_TRAIN_AGAIN}")
    model = FittedModel(
        estimator=parts["estimator"],
        features=tuple(parts["features"]),
        golden_rows=_frame(parts["golden_rows"]),
        golden_scores=parts["golden_scores"],
        libraries=parts["libraries"],
    )
    _replay(model, called)
    return model


def _is_skops(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return isinstance(json.loads(archive.read(_SCHEMA)), dict)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, zlib.error):
        return False


def _with_current_paths(data: bytes) -> bytes:
    """Return a file in which each class has its path of today; the same bytes where nothing has moved.

    Only in memory: the stored bytes never change, because approvals name their digest.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        schema = json.loads(archive.read(_SCHEMA))
        if not _move_classes(schema):
            return data
        changed = io.BytesIO()
        with zipfile.ZipFile(changed, "w") as current:
            for member in archive.namelist():
                current.writestr(member, json.dumps(schema) if member == _SCHEMA else archive.read(member))
    return changed.getvalue()


def _move_classes(node: Any) -> bool:
    """Replace old paths in a skops schema, in place; whether there were any."""
    if isinstance(node, list):
        # Not `any`, which would stop at the first.
        return sum([_move_classes(one) for one in node]) > 0
    if not isinstance(node, dict):
        return False
    moved = MOVED.get(f"{node.get('__module__')}.{node.get('__class__')}")
    if moved:
        node["__module__"], _, node["__class__"] = moved.rpartition(".")
    return sum([_move_classes(one) for one in node.values()]) + bool(moved) > 0


def _replay(model: FittedModel, called: str) -> None:
    """Refuse a model that does not score as it did."""
    import numpy as np

    try:
        difference = float(np.max(np.abs(model.scores(model.golden_rows) - model.golden_scores)))
        outcome = f"its golden rows get other scores, by up to {difference:.3g} ({TOLERANCE:g} is allowed)"
    except Exception as error:  # noqa: BLE001 - an estimator of another version fails in any way
        difference, outcome = float("nan"), f"its golden rows cannot be scored ({_told(error)})"
    # Not `>`: a score that is no number is no match.
    if not difference <= TOLERANCE:
        then, now = _listed(model.libraries), _listed(library_versions())
        way_out = _TRAIN_AGAIN if then == now else f"install those versions, or {_TRAIN_AGAIN}"
        raise ArtefactError(
            f"{called} is not the model any more that was trained: {outcome}; trained with {then}, loaded with {now}: "
            f"{way_out}"
        )


def _column(name: str, column: pd.Series[Any]) -> dict[str, Any]:
    """A column as plain values, from which `_frame` makes the same one again, but for the index."""
    import numpy as np
    import pandas as pd

    kind = column.dtype
    stored: dict[str, Any] = {"name": name, "dtype": str(kind), "nulls": None}
    if pd.api.types.is_extension_array_dtype(kind) and hasattr(kind, "numpy_dtype"):
        # Whole numbers with nulls: as floats, those beyond 2**53 would change.
        return stored | {
            "values": column.to_numpy(dtype=kind.numpy_dtype, na_value=0),
            "nulls": column.isna().to_numpy(),
        }
    if isinstance(kind, pd.StringDtype):
        return stored | {"values": [None if empty else text for text, empty in zip(column, column.isna(), strict=True)]}
    plain = kind.kind if isinstance(kind, np.dtype) else ""
    if plain == "O" and all(value is None or type(value) in {str, bool, float} for value in column):
        return stored | {"values": column.to_list()}
    if plain in {"b", "i", "u", "f"}:
        return stored | {"values": column.to_numpy()}
    raise ArtefactError(
        f"column {name} of the golden rows is of type {kind}, which is not kept with a model; features are booleans, "
        "numbers or strings"
    )


def _frame(columns: list[dict[str, Any]]) -> Frame:
    import pandas as pd

    made = {}
    for column in columns:
        values = pd.Series(column["values"], dtype=column["dtype"])
        made[column["name"]] = values if column["nulls"] is None else values.mask(column["nulls"])
    return pd.DataFrame(made)


def _typed_values(values: list[Any], kind: Any) -> Any:
    """Plain values as a column; the same as of a frame that is cast, in less time for texts."""
    import pandas as pd

    if pd.api.types.is_extension_array_dtype(kind):
        return pd.array(values, dtype=kind)
    return pd.Series(values, dtype=object).astype(kind)


@cache
def _threads() -> Any:
    # Looking for the loaded libraries takes 3 ms, longer than scoring one row; with an estimator in hand,
    # those that score are loaded.
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()


def _listed(libraries: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in libraries.items())


def _told(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:_LONGEST_REASON]
