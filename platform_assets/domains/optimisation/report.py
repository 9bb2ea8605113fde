"""The report on a small table: the size of each column, and a chart that compares other ways to store the table.

The sizes of the other ways are computed column by column, so the table is never decompressed as a whole.
"""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import pandas as pd

    from platform_assets.domains.optimisation.small_table import SmallTable

OURS = "this platform"
MEGABYTE = 1e6


def per_column(small: SmallTable) -> str:
    """Return a Markdown table with the type, the form and the sizes of each column."""
    from tabulate import tabulate

    rows = [[c.name, c.type, c.form, c.before, c.after, f"{c.before / max(c.after, 1):.1f}"] for c in small.columns]
    before = sum(column.before for column in small.columns)
    rows.append(["all", "", "", before, small.nbytes, f"{before / max(small.nbytes, 1):.1f}"])
    headers = ["column", "type", "form", "bytes before", "bytes after", "times smaller"]
    return tabulate(rows, headers, tablefmt="github", intfmt=",")


def competitors(small: SmallTable) -> Mapping[str, int]:
    """Return the size of the table in bytes for each way to store it, in descending order."""
    ways: Mapping[str, Callable[[pd.Series[Any]], int]] = {
        "pandas, texts as objects": _as_objects,
        "pandas": _in_pandas,
        "pandas, downcast and categories": _downcast,
        "Arrow, dictionaries": _arrow_dictionary,
    }
    sizes = dict.fromkeys(ways, 0)
    for column in small.columns:
        series = column.series()
        for name, size in ways.items():
            sizes[name] += size(series)
    return dict(sorted({**sizes, OURS: small.nbytes}.items(), key=lambda entry: -entry[1]))


def bar_chart(sizes: Mapping[str, int]) -> str:
    """Return a bar chart of the sizes as Markdown with an embedded image."""
    from matplotlib.figure import Figure

    names = list(sizes)[::-1]
    megabytes = [sizes[name] / MEGABYTE for name in names]
    figure = Figure(figsize=(7.5, 0.9 + 0.45 * len(names)), layout="constrained")
    axes = figure.subplots()
    bars = axes.barh(names, megabytes, color=["#1b7f5c" if name == OURS else "#b8bec7" for name in names])
    axes.bar_label(bars, [f"{size:,.3g}" for size in megabytes], padding=4)
    axes.margins(x=0.12)
    axes.set_xlabel("memory in MB, all lossless")
    axes.spines[["top", "right"]].set_visible(False)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=110, metadata={"Software": None})
    return f"![memory in MB](data:image/png;base64,{base64.b64encode(image.getvalue()).decode()})"


def _in_pandas(series: pd.Series[Any]) -> int:
    return int(series.memory_usage(index=False, deep=True))


def _as_objects(series: pd.Series[Any]) -> int:
    return _in_pandas(series.astype(object)) if series.dtype == "str" else _in_pandas(series)


def _downcast(series: pd.Series[Any]) -> int:
    import pandas as pd

    if series.dtype == "str":
        return min(_in_pandas(series), _in_pandas(series.astype("category")))
    if pd.api.types.is_integer_dtype(series):
        return _in_pandas(pd.to_numeric(series, downcast="integer"))
    # pandas' downcast of floats is lossy, so floats stay as they are.
    return _in_pandas(series)


def _arrow_dictionary(series: pd.Series[Any]) -> int:
    import pyarrow as pa

    found = pa.array(series)
    plain = pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found
    return int(min(plain.nbytes, plain.dictionary_encode().nbytes))
