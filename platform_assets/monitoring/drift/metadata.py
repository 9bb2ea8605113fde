"""Dagster metadata of measured drift: counts, distances, plots, and tables of the columns, days and batches."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dagster as dg

from platform_assets.monitoring.drift.plots import distributions
from platform_assets.monitoring.drift.reference import JOINT
from platform_assets.training.metadata import image, table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from platform_assets.monitoring.drift.history import MeasuredBatch
    from platform_assets.monitoring.drift.monitor import Measurement

_MOST_PLOTS = 12
_MOST_BATCHES = 50


def of_measurement(measurement: Measurement) -> dict[str, Any]:
    """Return the metadata of newly measured batches; empty if there are none."""
    reference, values = measurement.reference, measurement.values
    if reference is None or values is None:
        return {}
    effects = {name: ruler.distance(values[name]) for name, ruler in reference.rulers.items()}
    shown = sorted((name for name in effects if name != JOINT), key=lambda name: -effects[name])[:_MOST_PLOTS]
    return {
        "model_version": reference.version.version,
        "rows": sum(batch.rows for batch in measurement.batches),
        "batches": len(measurement.batches),
        "batches_left": measurement.left,
        "columns": dg.MetadataValue.md(_columns(measurement, effects)),
        "days": dg.MetadataValue.md(_batches(measurement.days)),
        "newest_batches": dg.MetadataValue.md(_batches(measurement.batches[-_MOST_BATCHES:])),
        # Add the distances as plain numbers, because Dagster plots such metadata over time.
        **{f"distance of {name}": effect for name, effect in effects.items()},
        **{
            f"plot of {name}": dg.MetadataValue.md(
                image(f"{name}.png", distributions(name, reference.known[name], values[name], effects[name]))
            )
            for name in shown
        },
    }


def _columns(measurement: Measurement, effects: dict[str, float]) -> str:
    last, rows = measurement.batches[-1], []
    for name, effect in effects.items():
        alarmed = [batch for batch in measurement.batches if name in batch.alarm]
        newest = (alarmed or [last])[-1].columns[name]
        rows.append(
            [
                name,
                f"{effect:.3f}",
                f"{newest.evidence:.3g}",
                f"{newest.threshold:,.0f}",
                f"batches: {len(alarmed)}. {newest.told}" if alarmed else "none",
            ]
        )
    return table(["column", "distance, 0 to 1", "evidence, days", "threshold, days", "alarm"], rows)


def _batches(batches: Sequence[MeasuredBatch]) -> str:
    rows = [
        [
            one.name,
            f"{one.rows:,}",
            ", ".join(sorted(one.alarm)) or "none",
            f"{max(found.effect for found in one.columns.values()):.3f}",
            "unknown" if one.performance.outside is None else f"{one.performance.outside:.1%}",
            one.performance.told(),
        ]
        for one in batches
    ]
    return table(
        ["batch", "rows", "alarm", "largest distance", "outside training range", "estimated performance"], rows
    )
