"""Tables of the optimisations: columns, types, units and expectations."""

from __future__ import annotations

from platform_assets.lake.expectations import has_rows, is_not_negative, is_present, is_unique, is_within
from platform_assets.lake.schemas import Column, TableSchema

DEGREES = "degrees"
CURRENCY = "currency units per night"  # the source does not name the currency
# sin(x / 2)^2 is between 0 and 1, so the formula is between -1 and 2, up to rounding.
LOWEST_DISTANCE, HIGHEST_DISTANCE = -1.0 - 1e-9, 2.0 + 1e-9
HIGHEST_RATE = 1e9

ROW = Column(
    "row", "int64", "Position of the row in the file: line number in a CSV file, row number in a parquet file."
)

DISTANCES = TableSchema(
    name="optimisation/distances",
    columns=(
        ROW,
        Column("latitude", "float64", "Latitude as in the source; the formula uses the number as radians.", DEGREES),
        Column("longitude", "float64", "Longitude as in the source; the formula uses the number as radians.", DEGREES),
        Column(
            "distance",
            "float64",
            "sin(latitude/2)^2 + cos(latitude) cos(longitude) sin(longitude/2)^2; degrees are not converted. The "
            "result has no unit and is not the haversine. Null if a coordinate is missing.",
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
        Column("ean_hotel_id", "int64", "Id of the hotel; a hotel may have many rows."),
        Column("name", "string", "Name of the hotel."),
        Column("address1", "string", "Street and number."),
        Column("city", "string", "City."),
        Column("state_province", "string", "State, as two letters."),
        Column(
            "postal_code", "string", "Postal code; stored as text, because it may contain a dash or start with zero."
        ),
        Column("latitude", "float64", "Latitude.", DEGREES),
        Column("longitude", "float64", "Longitude.", DEGREES),
        Column("star_rating", "float64", "Star rating; null if the hotel has none.", "stars"),
        Column("high_rate", "float64", "Highest rate; 0 if unknown.", CURRENCY),
        Column("low_rate", "float64", "Lowest rate; 0 if unknown.", CURRENCY),
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
