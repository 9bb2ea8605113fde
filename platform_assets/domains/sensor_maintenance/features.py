"""Identity of a reading, the newest prediction for each device, and silent devices, as Ibis expressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.sensor_maintenance.schemas import DEVICES, READINGS
from platform_assets.domains.sensor_maintenance.settings import RETIRED_HOURS

if TYPE_CHECKING:
    import ibis.expr.types as ir

DECIMALS = 9
"""Number of decimals to which a reading is rounded before its identity is computed."""
MOST_AHEAD_HOURS = 24
"""Maximum number of hours by which a reading may be later than its prediction to count as the newest of all devices.

`silent_devices` applies this limit. Smaller differences are common, for example if a device writes local time without
an offset.
"""


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


def silent_devices(devices: ir.Table, hours: float) -> ir.Table:
    """Return the devices that stopped sending readings while others continued, the longest silence first.

    The newest reading of a device is compared with the newest reading of all devices, not with the current time.
    Therefore no device is silent if all files are late. If the time of a reading is later than its prediction, because
    the device's clock is wrong, the time of the prediction is used.

    A reading that is later than its prediction by more than `MOST_AHEAD_HOURS` does not count as the newest reading of
    all devices, unless the newest reading of every device is that late. Otherwise, a single wrong clock could make all
    other devices silent, because predictions can be made days after the readings.

    A device is not examined if the time of its newest reading is unknown, or if the device itself is unknown, so that
    its readings have the name of their file.

    Parameters
    ----------
    devices
        One row per device, with the columns of `schemas.DEVICES`.
    hours
        A device is silent if its newest reading is older by more than this time, and by at most `RETIRED_HOURS`.

    Returns
    -------
    ir.Table
        The columns `device`, `newest_reading` (timestamp, UTC) and `hours` (int64): the length of the silence.
    """
    import ibis

    known = devices.filter(devices.recorded_at.notnull(), ~devices.device.identical_to(devices.file_name))
    timed = known.select(
        "device",
        newest_reading=ibis.least(known.recorded_at, known.predicted_at),
        is_plausible=known.recorded_at <= known.predicted_at + ibis.interval(hours=MOST_AHEAD_HOURS),
    )
    newest = ibis.coalesce(
        timed.newest_reading.max(where=timed.is_plausible).over(ibis.window()),
        timed.newest_reading.max().over(ibis.window()),
    )
    timed = timed.mutate(seconds=newest.epoch_seconds() - timed.newest_reading.epoch_seconds())
    silent = timed.filter(timed.seconds > hours * 3600, timed.seconds <= RETIRED_HOURS * 3600)
    found = silent.select("device", "newest_reading", hours=(silent.seconds / 3600).floor().cast("int64"))
    return found.order_by(found.newest_reading, found.device)
