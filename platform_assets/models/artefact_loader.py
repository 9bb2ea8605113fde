"""Builds a model from the bytes of its file without running foreign code, and checks that it still scores as it did."""

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
from platform_assets.models.trusted_types import TRUSTED_TYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

TOLERANCE = 1e-9
"""Largest difference of a score that passes as the same model.

Another processor or BLAS adds in another order, which moves a probability by about 1e-15; another algorithm, or
one damaged parameter, moves it by far more than this.
"""
TRAIN_AGAIN = "train the model again, which stores a new one"
"""The remedy for a file that cannot be used."""
_FIELDS = {"estimator", "features", "golden_rows", "golden_scores", "libraries"}
_SCHEMA = "schema.json"


def open_artefact(data: bytes, called: str) -> FittedModel:
    """Build the model from the bytes of its file, and check that it scores its golden rows as it did.

    Parameters
    ----------
    data
        What `dump` wrote, perhaps long ago.
    called
        The file, for errors.

    Raises
    ------
    ArtefactError
        It is no skops file, holds types that are not in `TRUSTED_TYPES`, or scores its golden rows differently.
    """
    import skops.io
    from skops.io.exceptions import UntrustedTypesFoundException

    if not _is_skops(data):
        raise ArtefactError(
            f"{called} is no skops file: a pickle or something else is in its place, and was not opened; {TRAIN_AGAIN}"
        )
    current = _with_current_paths(data)
    try:
        # It looks at all types before it builds anything.
        parts = skops.io.loads(current, trusted=list(TRUSTED_TYPES))
    except UntrustedTypesFoundException:
        untrusted = sorted(set(skops.io.get_untrusted_types(data=current)) - set(TRUSTED_TYPES))
        raise ArtefactError(
            f"{called} holds types that the platform does not trust: {untrusted}; build the model without them, "
            f"and {TRAIN_AGAIN}"
        ) from None
    except Exception as error:  # noqa: BLE001 - a dump of another version, or a forged one, fails in any way
        raise ArtefactError(
            f"{called} cannot be read by skops {version('skops')} ({one_line(error)}); {TRAIN_AGAIN}"
        ) from None
    if not isinstance(parts, dict) or not parts.keys() >= _FIELDS:
        raise ArtefactError(f"{called} holds no model of the platform, but something else; {TRAIN_AGAIN}")
    model = FittedModel(
        estimator=parts["estimator"],
        features=tuple(parts["features"]),
        golden_rows=frame_of(parts["golden_rows"]),
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
    moved = node.get("__module__") in MOVED
    if moved:
        node["__module__"] = MOVED[node["__module__"]]
    return sum([_move_classes(one) for one in node.values()]) + moved > 0


def _replay(model: FittedModel, called: str) -> None:
    """Refuse a model that does not score as it did."""
    import numpy as np

    try:
        difference = float(np.max(np.abs(model.scores(model.golden_rows) - model.golden_scores)))
        outcome = f"its golden rows get other scores, by up to {difference:.3g} ({TOLERANCE:g} is allowed)"
    except Exception as error:  # noqa: BLE001 - an estimator of another version fails in any way
        difference, outcome = float("nan"), f"its golden rows cannot be scored ({one_line(error)})"
    # Not `>`: a score that is no number is no match.
    if not difference <= TOLERANCE:
        then, now = _listed(model.libraries), _listed(library_versions())
        way_out = TRAIN_AGAIN if then == now else f"install those versions, or {TRAIN_AGAIN}"
        raise ArtefactError(
            f"{called} is not the model any more that was trained: {outcome}; trained with {then}, loaded with {now}: "
            f"{way_out}"
        )


def _listed(libraries: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in libraries.items())
