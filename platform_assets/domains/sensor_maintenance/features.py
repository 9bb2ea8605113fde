"""Identity of a reading, and the newest prediction for each device, as Ibis expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.sensor_maintenance.schemas import DEVICES, READINGS

if TYPE_CHECKING:
    import ibis.expr.types as ir

DECIMALS = 9
"""Number of decimals to which a reading is rounded before its identity is computed."""


def reading(readings: ir.Table) -> ir.StringColumn:
    """Return the identity of each reading: a digest of both sensors' values, equal for equal readings.

    Parameters
    ----------
    readings
        Rows with the columns of `schemas.FEATURES`.

    Returns
    -------
    ir.StringColumn
        SHA-256 in hexadecimal. It must not differ between engines or versions, because it decides which readings are
        held out.
    """
    import ibis

    # Engines format floats differently, so readings are hashed as whole numbers.
    texts = ((readings[name] * 10**DECIMALS).round().cast("int64").cast("string") for name in READINGS)
    return ibis.literal("|").join([*texts]).hexdigest("sha256")


def newest_per_device(predictions: ir.Table) -> ir.Table:
    """Return the newest prediction for each device.

    Predictions are ordered by the time of the reading. The time of the prediction is used instead if the reading has no
    time, or if its time is later than the prediction because the device's clock is wrong. Ties go to the later
    prediction, then to the larger file digest, then to the larger line number.

    Parameters
    ----------
    predictions
        One row per reading, with the columns of `schemas.PREDICTIONS`.

    Returns
    -------
    ir.Table
        One row per device, with the columns of `schemas.DEVICES`.
    """
    import ibis

    at = predictions.recorded_at.coalesce(predictions.predicted_at)
    taken_at = ibis.least(at, predictions.predicted_at)
    order = (taken_at, predictions.predicted_at, predictions.file_digest, predictions.line)
    newest_first = ibis.window(group_by=predictions.device, order_by=[ibis.desc(one) for one in order])
    placed = predictions.mutate(place=ibis.row_number().over(newest_first))
    return placed.filter(placed.place == 0).select(column.name for column in DEVICES.columns)
