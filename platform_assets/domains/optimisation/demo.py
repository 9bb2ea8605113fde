"""Invented hotels with the format and the irregularities of the two real files.

- Each hotel occurs in many rows, so a table of thousands of rows contains few distinct values.
- Coordinates have five significant decimals, followed by zeros. Rates have four decimals.
- All hotels are in one state. Some postal codes have a dash, and some star ratings are missing.
- The file for `compact_table` is in cp1252, with bytes that are not UTF-8.
- One line in 200 is irregular. In the file for `compact_table` it has an unusual name or a surplus field. In the file
  for `distances` its latitude is missing (which is allowed), its latitude is not a number, or it has a surplus field.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.landing.file_writer import write_csv
from platform_assets.landing.sample_data import Demo

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

SEED = 20_260_401
MOST_HOTELS = 1_600
ROWS_OF_A_HOTEL = 8
SHARE_OF_ODD_LINES = 0.005
FIRST_HOTEL_ID = 100_003

COLUMNS = (
    "ean_hotel_id",
    "name",
    "address1",
    "city",
    "state_province",
    "postal_code",
    "latitude",
    "longitude",
    "star_rating",
    "high_rate",
    "low_rate",
)
_LATITUDE = COLUMNS.index("latitude")
_CITIES = ("Ashford", "Brookvale", "Cedar Point", "Dunmore", "Eastlake", "Fairmont", "Glenhaven", "Harrow", "Millbrook")
_KINDS = ("Inn", "Hotel", "Suites", "Lodge", "Resort", "Motel", "Guesthouse")
_STREETS = ("Main St", "Lake Rd", "Mill Ave", "Station Sq", "Harbour Dr", "Park Blvd", "Old Post Rd")
_ODD_NAMES = ("Château {}", "{} \N{EN DASH} a Quiet House", "Café {}", "Hôtel {}")


def generate(path: Path, rows: int, seed: int = SEED) -> Path:
    """Write the hotels as a CSV file in cp1252; the same rows and seed give the same bytes.

    Parameters
    ----------
    path
        The file, which is written completely or not at all.
    rows
        Lines after the header, including bad lines.
    seed
        Random seed.

    Raises
    ------
    ValueError
        `rows` is not positive.
    OSError
        The file cannot be written.

    """
    lines, odd = _lines(rows, seed)
    for number, place in enumerate(odd):
        if number % 2:
            lines[place].append("surplus")
        else:
            lines[place][1] = _ODD_NAMES[number // 2 % len(_ODD_NAMES)].format(lines[place][1])
    return write_csv(path, COLUMNS, lines, "cp1252")


def generate_coordinates(path: Path, rows: int, seed: int = SEED) -> Path:
    """Write the hotels as a CSV file in UTF-8, with irregular lines; the same rows and seed give the same bytes.

    Parameters
    ----------
    path
        The file, which is written completely or not at all.
    rows
        Lines after the header, including bad lines.
    seed
        Random seed.

    Raises
    ------
    ValueError
        `rows` is not positive.
    OSError
        The file cannot be written.

    """
    lines, odd = _lines(rows, seed)
    for number, place in enumerate(odd):
        if number % 3 == 0:
            lines[place][_LATITUDE] = ""
        elif number % 3 == 1:
            lines[place][_LATITUDE] = "unknown"
        else:
            lines[place].append("surplus")
    return write_csv(path, COLUMNS, lines)


def _lines(rows: int, seed: int) -> tuple[list[list[str]], list[int]]:
    """Return (valid lines, indexes of the lines that the caller must make irregular)."""
    import numpy as np

    if rows < 1:
        raise ValueError(f"demo hotels: {rows} rows requested; at least 1 is needed")
    random = np.random.default_rng(seed)
    hotels = _hotels(random, max(1, min(MOST_HOTELS, rows // ROWS_OF_A_HOTEL)))
    lines = [list(hotels[place % len(hotels)]) for place in range(rows)]
    return lines, random.choice(rows, round(rows * SHARE_OF_ODD_LINES), replace=False).tolist()


def _hotels(random: np.random.Generator, count: int) -> list[list[str]]:
    import numpy as np

    ids = FIRST_HOTEL_ID + np.sort(random.choice(600_000, count, replace=False))
    city = random.integers(0, len(_CITIES), count).tolist()
    low = np.round(random.lognormal(4.8, 0.5, count), 4)
    high = np.round(low * random.uniform(1, 2.5, count), 4)
    stars = random.choice([1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0], count)
    north, east = random.uniform(40.58, 44.97, count), random.uniform(-79.06, -72.1, count)
    suffix = np.where(random.random(count) < 0.01, "-1234", "")  # noqa: PLR2004 - one in a hundred

    def picked(words: tuple[str, ...]) -> list[Any]:
        found: list[Any] = random.choice(np.array(words), count).tolist()
        return found

    return [
        [
            str(number),
            f"{owner} {kind} {_CITIES[place]}",
            f"{house} {street}",
            _CITIES[place],
            "NY",
            f"{10_000 + 37 * place}{dash}",
            f"{a:.5f}0000000",
            f"{b:.5f}0000000",
            "" if row % 997 == 1 else f"{star}",
            f"{dear:.4f}",
            f"{cheap:.4f}",
        ]
        for row, (number, owner, kind, place, house, street, dash, a, b, star, dear, cheap) in enumerate(
            zip(
                ids.tolist(),
                picked(("Grand", "Royal", "Little", "Old", "River", "Sunset", "Corner")),
                picked(_KINDS),
                city,
                random.integers(1, 2_000, count).tolist(),
                picked(_STREETS),
                suffix.tolist(),
                north.tolist(),
                east.tolist(),
                stars.tolist(),
                high.tolist(),
                low.tolist(),
                strict=True,
            )
        )
    ]


HOTELS = Demo(generate)
COORDINATES = Demo(generate_coordinates)
