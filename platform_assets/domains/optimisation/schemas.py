"""The optimisations' tables: columns, types, units, and what must hold before they are published."""

from __future__ import annotations

from platform_assets.lake.expectations import has_rows, is_not_negative, is_present, is_unique, is_within
from platform_assets.lake.schemas import Column, TableSchema

DEGREES = "degrees"
CURRENCY = "currency units per night"  # the source names no currency
# sin(x / 2)^2 lies between 0 and 1, and so the formula between -1 and 2; rounding may pass that by a hair.
LOWEST_DISTANCE, HIGHEST_DISTANCE = -1.0 - 1e-9, 2.0 + 1e-9
HIGHEST_RATE = 1e9

ROW = Column("row", "int64", "Where the row begins in the file: the line of a CSV file, the row of a parquet file.")

DISTANCES = TableSchema(
    name="optimisation/distances",
    columns=(
        ROW,
        Column("latitude", "float64", "Latitude as it was given; the formula takes the number as an angle.", DEGREES),
        Column("longitude", "float64", "Longitude as it was given; the formula takes the number as an angle.", DEGREES),
        Column(
            "distance",
            "float64",
            "sin(latitude/2)^2 + cos(latitude) cos(longitude) sin(longitude/2)^2, angles as given; no haversine, and "
            "without a unit. Null where a coordinate is missing.",
        ),
    ),
    key=("row",),
    source=True,
    expectations=(
        has_rows(),
        is_unique("row"),
        is_present("row"),
        is_within("distance", LOWEST_DISTANCE, HIGHEST_DISTANCE),
    ),
)

COMPACT_TABLE = TableSchema(
    name="optimisation/compact_table",
    columns=(
        ROW,
        Column("ean_hotel_id", "int64", "Number of the hotel; a hotel may have many rows."),
        Column("name", "string", "Name of the hotel."),
        Column("address1", "string", "Street and number."),
        Column("city", "string", "City."),
        Column("state_province", "string", "State, in two letters."),
        Column("postal_code", "string", "Postal code; a text, for it may have a dash or begin with zero."),
        Column("latitude", "float64", "Latitude.", DEGREES),
        Column("longitude", "float64", "Longitude.", DEGREES),
        Column("star_rating", "float64", "Rating; null where there is none.", "stars"),
        Column("high_rate", "float64", "Highest rate; 0 where none is known.", CURRENCY),
        Column("low_rate", "float64", "Lowest rate; 0 where none is known.", CURRENCY),
    ),
    key=("row",),
    source=True,
    expectations=(
        has_rows(),
        is_unique("row"),
        is_present("row"),
        is_present("ean_hotel_id"),
        is_within("latitude", -90.0, 90.0),
        is_within("longitude", -180.0, 180.0),
        is_not_negative("star_rating"),
        is_within("high_rate", 0.0, HIGHEST_RATE),
        is_within("low_rate", 0.0, HIGHEST_RATE),
    ),
)
