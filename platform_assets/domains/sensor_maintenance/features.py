"""Identity of a reading, as an Ibis expression."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.sensor_maintenance.schemas import READINGS

if TYPE_CHECKING:
    import ibis.expr.types as ir

DECIMALS = 9
"""Decimals of a reading that its identity includes."""


def reading(readings: ir.Table) -> ir.StringColumn:
    """Return the identity of each reading: a digest of both sensors' values, equal for equal readings.

    Parameters
    ----------
    readings
        Rows with the columns of `schemas.FEATURES`.

    Returns
    -------
    ir.StringColumn
        SHA-256 in hexadecimal. It is equal on every engine and in every version, because the holdout depends on it.
    """
    import ibis

    # Engines format floats differently, so the text is that of a whole number.
    texts = ((readings[name] * 10**DECIMALS).round().cast("int64").cast("string") for name in READINGS)
    return ibis.literal("|").join([*texts]).hexdigest("sha256")
