"""Serialisation of a fitted model to the bytes of its artefact; `artefact_loader.py` reads them.

An artefact is a skops dump, which describes objects and, unlike a pickle, runs no code. It includes the golden rows:
sample rows with the scores that they got in training. Each load scores them again and compares the results.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError
from platform_assets.models.outputs import PROBABILITY

if TYPE_CHECKING:
    import pandas as pd

    from platform_assets.base.frames import Frame
    from platform_assets.models.fitted_model import FittedModel

COMPRESSION = zipfile.ZIP_DEFLATED


def dump(model: FittedModel) -> bytes:
    """Serialise a model.

    Two dumps of the same model differ, because skops writes the objects' memory addresses.

    Raises
    ------
    ArtefactError
        A column of the golden rows has an unsupported type.
    """
    import skops.io

    parts = {
        "estimator": model.estimator,
        "features": list(model.features),
        "golden_rows": [stored_column(name, model.golden_rows[name]) for name in model.features],
        "golden_scores": model.golden_scores,
        "libraries": dict(model.libraries),
    }
    if model.output is not PROBABILITY:
        parts["output"] = model.output.name
    if model.training_ranges is not None:
        parts["training_ranges"] = {name: list(ends) for name, ends in model.training_ranges.items()}
    dumped: bytes = skops.io.dumps(parts, compression=COMPRESSION)
    return dumped


def stored_column(name: str, column: pd.Series[Any]) -> dict[str, Any]:
    """Convert a column to plain values, from which `frame_of` restores everything except the index."""
    import numpy as np
    import pandas as pd

    kind = column.dtype
    stored: dict[str, Any] = {"name": name, "dtype": str(kind), "nulls": None}
    if pd.api.types.is_extension_array_dtype(kind) and hasattr(kind, "numpy_dtype"):
        # Store nullable integers as integers, because floats would change integers beyond 2**53.
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
        f"column {name} of the golden rows has the type {kind}, which cannot be stored with a model; use booleans, "
        "numbers or strings as features"
    )


def frame_of(columns: list[dict[str, Any]]) -> Frame:
    """Build a frame from the results of `stored_column`."""
    import pandas as pd

    made = {}
    for column in columns:
        values = pd.Series(column["values"], dtype=column["dtype"])
        made[column["name"]] = values if column["nulls"] is None else values.mask(column["nulls"])
    return pd.DataFrame(made)
