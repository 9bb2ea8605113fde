"""Sensor maintenance's tables: columns, types, units, and the expectations that are checked before publication."""

from __future__ import annotations

from platform_assets.lake.expectations import has_at_most, has_rows, is_one_of, is_present, is_unique, is_within
from platform_assets.lake.landed_files import FILE_COLUMNS, LANDED_AT_COLUMN
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.serving.stored_predictions import prediction_table

UNIT = "unknown unit"  # the source gives no unit; the labelled readings are standardised
LONGEST_DEVICE = 200
"""Maximum length of a device's name, as for label subjects. PostgreSQL cannot index very long names."""
HIGHEST_READING = 1e6
"""Largest absolute value of a reading. Up to this value, a float64 keeps the 9 decimals that identify a reading."""

FEATURES = (
    Column("sensor_1", "float64", "Reading of the first sensor.", UNIT),
    Column("sensor_2", "float64", "Reading of the second sensor.", UNIT),
)
READINGS = tuple(feature.name for feature in FEATURES)

READING_EXPECTATIONS = (
    *(is_present(name) for name in READINGS),
    *(is_within(name, -HIGHEST_READING, HIGHEST_READING) for name in READINGS),
)

READINGS_HISTORY = TableSchema(
    name="sensor_maintenance/readings_history",
    columns=(
        Column(
            "row", "int64", "Position of the row in the file: line number in a CSV file, row number in a parquet file."
        ),
        *FEATURES,
        Column(
            "label",
            "int64",
            "1: the device needs maintenance, 0: it does not. An assumption, as the source does not explain the label.",
        ),
    ),
    key=("row",),
    source=True,
    expectations=(
        has_rows(),
        is_unique("row"),
        is_present("row"),
        *READING_EXPECTATIONS,
        is_present("label"),
        is_one_of("label", (0, 1)),
    ),
)

READINGS_INCOMING = TableSchema(
    name="sensor_maintenance/readings_incoming",
    columns=(
        *FILE_COLUMNS,
        Column("device", "string", "Device of the reading; the name of the file if the device is unknown."),
        Column("recorded_at", "timestamp('UTC')", "Time of the reading; null if the time is unknown."),
        *FEATURES,
        LANDED_AT_COLUMN,
    ),
    key=("file_digest", "line"),
    source=True,
    accumulates=True,
    expectations=(is_present("device"), has_at_most("device", LONGEST_DEVICE), *READING_EXPECTATIONS),
)

PREDICTIONS = prediction_table(
    "sensor_maintenance/predictions",
    READINGS_INCOMING,
    copied=("file_name", "device", "recorded_at"),
    positive=Column("needs_maintenance", "boolean", "Whether the probability is at least the threshold."),
)

DEVICES = TableSchema(
    name="sensor_maintenance/devices",
    columns=tuple(sorted(PREDICTIONS.columns, key=lambda column: column.name != "device")),
    key=("device",),
    store="online",
    expectations=(is_unique("device"), is_present("device")),
)
