"""Rows between two stray quotes are read as rows; a quoted field with line breaks is read as one field."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.landing.csv_records import PIECE, open_csv
from platform_assets.landing.stray_quotes import has_stray_quotes

if TYPE_CHECKING:
    from pathlib import Path

HEADER = "id,name,street,city,rate\n"


def row(number: int, name: str = "", street: str = "") -> str:
    return f"{number},{name or f'Inn {number}'},{street or f'{number} Mill Rd'},Ashford,9.5"


def split(folder: Path, *lines: str, header: str = HEADER) -> tuple[dict[int, str], dict[int, str]]:
    """Return the first field of each row, and the reason for each unreadable line, both keyed by line number."""
    path = folder / "file.csv"
    path.write_text(header + "\n".join(lines) + "\n", encoding="utf-8", newline="")
    rows: dict[int, str] = {}
    unread: dict[int, str] = {}
    for piece in open_csv(path, "it").pieces():
        rows |= dict(zip(piece.lines.tolist(), piece.texts.column(0).to_pylist(), strict=True))
        unread |= {one.line: one.reason for one in piece.unread}
    return rows, unread


@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize("apart", [1, 2, 30, 98, 140])
def test_rows_between_stray_quotes_in_one_column_are_read_as_rows(tmp_path: Path, apart: int) -> None:
    lines = [row(number) for number in range(2, 150)]
    lines[5] = row(7, name='"Inn 7')
    lines[5 + apart] = row(7 + apart, name=f'Inn {7 + apart}"')
    rows, unread = split(tmp_path, *lines)
    assert unread == {7: "a quote is not closed", 7 + apart: "it closes the quote opened on line 7"}
    assert rows == {number: str(number) for number in range(2, 150) if number not in unread}


@pytest.mark.requirement("PLT-12")
def test_a_bad_line_between_stray_quotes_does_not_hide_other_rows(tmp_path: Path) -> None:
    lines = [row(2, name='"Inn 2'), row(3), "4,too,few", row(5), "", row(7, name='Inn 7"'), row(8)]
    rows, unread = split(tmp_path, *lines)
    assert list(rows) == [3, 5, 8]
    assert unread == {
        2: "a quote is not closed",
        4: "it has 3 fields; the header has 5",
        7: "it closes the quote opened on line 2",
    }


@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize("first", ['x,"Inn', '2,x,"Inn', '2\0,"Inn'])
def test_the_second_line_of_an_unreadable_record_is_not_read_as_a_row(tmp_path: Path, first: str) -> None:
    rows, unread = split(
        tmp_path, first, 'by the lake",2 Mill Rd,Ashford,9.5,x', row(4), header="name,street,city,rate,x\n"
    )
    assert list(rows) == [4]
    assert list(unread) == [2, 3]


@pytest.mark.requirement("PLT-12")
def test_a_single_stray_quote_makes_only_its_line_unreadable(tmp_path: Path) -> None:
    rows, unread = split(tmp_path, row(2), row(3, street='"3 Mill Rd'), row(4), row(5, street='"5, Mill ""Old"" Rd"'))
    assert list(rows) == [2, 4, 5]
    assert unread == {3: "a quote is not closed"}


@pytest.mark.requirement("PLT-12")
def test_rows_between_two_stray_quotes_are_read_if_the_quotes_are_in_different_pieces_of_the_file(
    tmp_path: Path,
) -> None:
    count = 2 * PIECE // len(row(1000))
    lines = [row(number) for number in range(2, count)]
    middle = PIECE // len(row(1000)) - 20
    lines[middle] = row(middle + 2, name='"Inn')
    lines[middle + 60] = row(middle + 62, name='Inn"')
    rows, unread = split(tmp_path, *lines)
    assert sorted(unread) == [middle + 2, middle + 62]
    assert len(rows) == count - 2 - 2


@pytest.mark.parametrize(
    "record",
    [
        '2,"Inn\nby the lake",2 Mill Rd,Ashford,9.5',
        '2,Inn,"2 Mill Rd,\nSuite 5, Floor 2,\nback door",Ashford,9.5',
        '"2","Inn","one, two, three, four\nfive, six, seven, eight","Ashford","9.5"',
        '2,Inn,"a ""quoted"" word,\n\n, and a blank line",Ashford,9.5',
    ],
)
@pytest.mark.requirement("PLT-12")
def test_a_quoted_field_with_line_breaks_is_one_field(tmp_path: Path, record: str) -> None:
    rows, unread = split(tmp_path, record, row(9))
    assert unread == {}
    assert list(rows) == [2, 3 + record.count("\n")]


@pytest.mark.parametrize(
    ("lines", "width", "expected"),
    [
        ([b'1,"a', b'b"'], 2, False),
        ([b'1,"a', b'2,b"'], 2, False),  # these may be one row, whose second field contains a comma
        ([b'1,"a', b"2,b", b"3,c", b'4,d"'], 2, True),
        ([b'"1","a', b"2,b", b"3,c", b'4,d"'], 2, False),  # only line 1 has a quoted first field
        ([b'"a,1', b"b,2", b"c,3", b'd",4'], 2, True),
        ([b'1,"a,x,x,x,x', b'2,b",x,x,x,x'], 6, True),
        ([b'1,"a', b"2,b,x,x,x,x", b'c",x,x,x,x'], 6, True),
    ],
)
def test_quotes_are_stray_if_the_lines_between_them_are_rows(lines: list[bytes], width: int, expected: bool) -> None:
    assert has_stray_quotes(lines, width) is expected
