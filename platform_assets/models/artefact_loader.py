"""Loading of artefacts: runs no code from the file, and verifies the scores of the golden rows."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError
from platform_assets.base.moved_modules import MOVED
from platform_assets.models.artefact_format import frame_of
from platform_assets.models.fitted_model import FittedModel, library_versions, one_line
from platform_assets.models.outputs import OUTPUTS, PROBABILITY
from platform_assets.models.trusted_types import TRUSTED_TYPES

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from platform_assets.models.outputs import Output

TOLERANCE = 1e-9
"""Largest accepted difference between a golden row's score now and in training, in units of `Output.scale`.

Another processor or BLAS sums in another order, which changes a probability by about 1e-15. Another algorithm or one
damaged parameter changes it by far more than this tolerance.
"""
ENCODER_TOLERANCE = 1e-3
"""Largest accepted difference for a model with a sentence encoder. Its 8-bit arithmetic differs between processors."""
TRAIN_AGAIN = "train the model again to store a new artefact"
"""Advice at the end of error messages about an unusable artefact."""
_FIELDS = {"estimator", "features", "golden_rows", "golden_scores", "libraries"}
_SCHEMA = "schema.json"


def open_artefact(data: bytes, called: str, read_encoder: Callable[[str], bytes] | None = None) -> FittedModel:
    """Load a model, and check that its golden rows get the same scores as in training.

    Parameters
    ----------
    data
        The artefact, written by `dump` of this or an older version of the platform.
    called
        Name of the file in error messages.
    read_encoder
        Function from a digest to the files of a sentence encoder. None refuses models with an encoder.

    Raises
    ------
    ArtefactError
        The data are not a skops dump, or contain types that are not in `TRUSTED_TYPES`. An encoder is missing or was
        altered. The golden rows get different scores than in training.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    if not _is_skops(data):
        raise ArtefactError(f"{called} is not a skops file (it may be a pickle) and was not opened; {TRAIN_AGAIN}")
    current = _with_current_paths(data)
    try:
        # skops checks all types before it builds any object.
        parts = skops.io.loads(current, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException:
        untrusted = sorted(set(skops.io.get_untrusted_types(data=current)) - set(TRUSTED_TYPES))
        raise ArtefactError(
            f"{called} contains types that the platform does not trust: {untrusted}; build the model without them, "
            f"and {TRAIN_AGAIN}"
        ) from None
    except Exception as error:  # noqa: BLE001 - a dump of another version or a forged one can raise any error
        raise ArtefactError(
            f"{called} cannot be read by skops {version('skops')} ({one_line(error)}); {TRAIN_AGAIN}"
        ) from None
    if not isinstance(parts, dict) or not parts.keys() >= _FIELDS:
        raise ArtefactError(f"{called} is not a model of the platform; {TRAIN_AGAIN}")
    model = FittedModel(
        estimator=parts["estimator"],
        features=tuple(parts["features"]),
        golden_rows=frame_of(parts["golden_rows"]),
        golden_scores=parts["golden_scores"],
        libraries=parts["libraries"],
        training_ranges=_ranges(parts.get("training_ranges")),
        output=_output(parts.get("output", PROBABILITY.name), called),
    )
    _open_encoders(model, read_encoder)
    _replay(model, called)
    return model


def _ranges(stored: Mapping[str, list[float]] | None) -> dict[str, tuple[float, float]] | None:
    """Return the training ranges of a fitted model; None if an older platform version stored none."""
    return None if stored is None else {name: (low, high) for name, (low, high) in stored.items()}


def _output(name: Any, called: str) -> Output:
    if name not in OUTPUTS:
        raise ArtefactError(
            f"{called} has the output {name!r}; this version of the platform supports {', '.join(OUTPUTS)}; "
            f"{TRAIN_AGAIN}"
        )
    return OUTPUTS[name]


def _open_encoders(model: FittedModel, read: Callable[[str], bytes] | None) -> None:
    from platform_assets.models.sentence_encoder import open_encoder
    from platform_assets.models.text_estimators import encoders_of

    for digest in encoders_of(model.estimator):
        called = f"the sentence encoder {digest}"
        if read is None:
            raise ArtefactError(f"{called} is not part of the model file; load the model from the platform's lake")
        open_encoder(digest, read, called)


def _is_skops(data: bytes) -> bool:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return isinstance(json.loads(archive.read(_SCHEMA)), dict)
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError, zlib.error):
        return False


def _with_current_paths(data: bytes) -> bytes:
    """Return a copy of the data in which moved classes have their current module paths.

    The stored artefact itself is not changed, because approvals contain its digest.
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
    """Replace old module paths in a skops schema in place; return whether any were replaced."""
    if isinstance(node, list):
        # Do not use `any`, which would stop at the first replacement.
        return sum([_move_classes(one) for one in node]) > 0
    if not isinstance(node, dict):
        return False
    moved = node.get("__module__") in MOVED
    if moved:
        node["__module__"] = MOVED[node["__module__"]]
    return sum([_move_classes(one) for one in node.values()]) + moved > 0


def _replay(model: FittedModel, called: str) -> None:
    """Refuse a model whose golden rows get different scores than in training."""
    import numpy as np

    from platform_assets.models.text_estimators import encoders_of

    allowed = ENCODER_TOLERANCE if encoders_of(model.estimator) else TOLERANCE
    try:
        allowed *= model.output.scale(model.golden_scores)
        difference = float(np.max(np.abs(model.outputs(model.golden_rows) - model.golden_scores)))
        outcome = f"the scores of its golden rows differ by up to {difference:.3g} (at most {allowed:g} is allowed)"
    except Exception as error:  # noqa: BLE001 - an estimator of another version can raise any error
        difference, outcome = float("nan"), f"its golden rows cannot be scored ({one_line(error)})"
    # Do not use `>`, so that NaN is treated as a difference.
    if not difference <= allowed:
        then, now = _listed(model.libraries), _listed(library_versions())
        way_out = TRAIN_AGAIN if then == now else f"install the library versions of the training, or {TRAIN_AGAIN}"
        raise ArtefactError(
            f"{called} does not predict as it did in training: {outcome}; trained with {then}, loaded with {now}; "
            f"{way_out}"
        )


def _listed(libraries: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in libraries.items())
