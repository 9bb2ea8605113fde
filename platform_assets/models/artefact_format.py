"""How a fitted model is written as the bytes of its file; `artefact_loader.py` reads them.

They are a skops dump, which says what to build instead of running code as a pickle does. It carries rows with the
scores that the model gave them when it was trained, so that whoever loads it knows that it still does.
"""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError

if TYPE_CHECKING:
    import pandas as pd

    from platform_assets.base.frames import Frame
    from platform_assets.models.fitted_model import FittedModel


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
        "golden_rows": [stored_column(name, model.golden_rows[name]) for name in model.features],
        "golden_scores": model.golden_scores,
        "libraries": dict(model.libraries),
    }
    dumped: bytes = skops.io.dumps(parts, compression=zipfile.ZIP_DEFLATED)
    return dumped


def stored_column(name: str, column: pd.Series[Any]) -> dict[str, Any]:
    """A column as plain values, from which `frame_of` makes the same one again, but for the index."""
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


def frame_of(columns: list[dict[str, Any]]) -> Frame:
    """Make a frame of columns that `stored_column` took apart."""
    import pandas as pd

    made = {}
    for column in columns:
        values = pd.Series(column["values"], dtype=column["dtype"])
        made[column["name"]] = values if column["nulls"] is None else values.mask(column["nulls"])
    return pd.DataFrame(made)
