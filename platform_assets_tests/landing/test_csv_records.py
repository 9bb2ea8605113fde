"""Each line of a CSV file, even a damaged one, becomes part of exactly one row. Each row has its line number."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from platform_assets.landing.csv_records import LONGEST_RECORD, MOST_LINES
from platform_assets.landing.row_writer import ERROR, LINE, TEXT
from platform_assets_tests.landing.sales_files import Row, bad, good, read

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine


OPEN_QUOTE = "a quote is not closed"


def fields(found: int) -> str:
    return f"it has {found} fields; the header has 2"


@pytest.mark.requirement("PLT-6")
@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param(b"a,b\n1,2\n3,4\n", [good(2, "1", "2"), good(3, "3", "4")], id="plain"),
        pytest.param(b"a,b\n1,2\n3,4", [good(2, "1", "2"), good(3, "3", "4")], id="no line break at the end"),
        pytest.param(
            b"a,b\n1\n2\n3,4\n5,6,7\n8,9\n10\n",
            [
                bad(2, fields(1), "1"),
                bad(3, fields(1), "2"),
                good(4, "3", "4"),
                bad(5, fields(3), "5,6,7"),
                good(6, "8", "9"),
                bad(7, fields(1), "10"),
            ],
            id="rejected before, between and after",
        ),
        pytest.param(b"a,b\n1,2,\n", [bad(2, fields(3), "1,2,")], id="only rejected"),
        pytest.param(
            b"a,b\n1,2\n\n\n3,4\n\n5\n", [good(2, "1", "2"), good(5, "3", "4"), bad(7, fields(1), "5")], id="blank"
        ),
        pytest.param(b"a,b\n  \n1,2\n", [bad(2, fields(1), "  "), good(3, "1", "2")], id="only spaces"),
        pytest.param(b"a,b\r\n1,2\r\n\r\n3,4\r\n", [good(2, "1", "2"), good(4, "3", "4")], id="CRLF"),
        pytest.param(b"a,b\n1,2\r\n3,4\n", [good(2, "1", "2"), good(3, "3", "4")], id="both line breaks"),
        pytest.param(
            b"a,b\n1,2\r3,4\n5,6\n",
            [bad(2, "new-line character seen in unquoted field", "1,2\r3,4"), good(3, "5", "6")],
            id="a lone carriage return",
        ),
        pytest.param(b"\xef\xbb\xbfa,b\n1,2\n", [good(2, "1", "2")], id="byte order mark"),
        pytest.param(b' A ,"B"\n1,2\n', [good(2, "1", "2")], id="header in another case, with blanks and quotes"),
        pytest.param("a,b\nŁódź,数\n".encode(), [good(2, "Łódź", "数")], id="beyond ASCII"),
        pytest.param(b"a,b\n,\n", [good(2, None, None)], id="empty fields"),
        pytest.param(b'a,b\n"","\'"\n', [good(2, None, "'")], id="empty between quotes"),
        pytest.param(b"a,b\n NULL , 4\n", [good(2, " NULL ", " 4")], id="blanks stay"),
        pytest.param(b'a,b\n"x,""y""",z"w\n', [good(2, 'x,"y"', 'z"w')], id="quotes and commas in fields"),
        pytest.param(b'a,b\n1",x"y"\n', [good(2, '1"', 'x"y"')], id="quotes at the end of unquoted fields"),
        pytest.param(b'a,b\n1,"x,3,4"\n', [good(2, "1", "x,3,4")], id="commas inside a quoted field"),
        pytest.param(b"a,b\n#1,2\n", [good(2, "#1", "2")], id="no comments"),
        pytest.param(
            b'a,b\n"x\ny",2\n3\n"x\r\n\r\ny",4\n5,6\n',
            [good(2, "x\ny", "2"), bad(4, fields(1), "3"), good(5, "x\r\n\r\ny", "4"), good(8, "5", "6")],
            id="line breaks between quotes",
        ),
        pytest.param(
            b'a,b\n1,"x\ny",2\n3,4\n',
            [bad(2, OPEN_QUOTE, '1,"x'), bad(3, "it closes the quote opened on line 2", 'y",2'), good(4, "3", "4")],
            id="too many fields in a record that spans two lines",
        ),
        pytest.param(
            b'a,b\n1,"x\n3,4\n5,6\n',
            [bad(2, OPEN_QUOTE, '1,"x'), good(3, "3", "4"), good(4, "5", "6")],
            id="open quote",
        ),
        pytest.param(
            b'a,b\n1,"x\n3,"4\n5,6\n',
            [bad(2, OPEN_QUOTE, '1,"x'), bad(3, OPEN_QUOTE, '3,"4'), good(4, "5", "6")],
            id="two open quotes",
        ),
        pytest.param(
            b'a,b\n1,"x\n3,4\n"y\nz",6\n',
            [bad(2, OPEN_QUOTE, '1,"x'), good(3, "3", "4"), good(4, "y\nz", "6")],
            id="open quote before a quoted field that spans two lines",
        ),
        pytest.param(b'a,b\n1,2\n3,"4', [good(2, "1", "2"), bad(3, OPEN_QUOTE, '3,"4')], id="cut between quotes"),
        pytest.param(
            b'a,b\n1,"x"y\n3,4\n', [bad(2, "',' expected after '\"'", '1,"x"y'), good(3, "3", "4")], id="behind a quote"
        ),
        pytest.param(
            b"a,b\n1,\xff\\\n3,4\n",
            [bad(2, "it is not in UTF-8, from byte 3 on", "1,\\xff\\"), good(3, "3", "4")],
            id="wrong encoding in one line",
        ),
        pytest.param(
            b"a,b\n1,\xff,3\n4,5\n",
            [bad(2, "it is not in UTF-8, from byte 3 on", "1,\\xff,3"), good(3, "4", "5")],
            id="wrong encoding and too many fields",
        ),
        pytest.param(b"a,b\n1,\0\n3,4\n", [bad(2, "it holds a zero byte", "1,\0"), good(3, "3", "4")], id="zero byte"),
    ],
)
def test_every_line_gives_a_row_or_the_reason_why_it_is_unreadable(
    engine: Engine, tmp_path: Path, content: bytes, expected: list[Row]
) -> None:
    assert read(engine, tmp_path, content) == expected


def test_a_record_may_span_up_to_a_hundred_lines(engine: Engine, tmp_path: Path) -> None:
    longest = "\n".join(["x"] * MOST_LINES)
    assert read(engine, tmp_path, f'a,b\n1,"{longest}"\n3,4\n'.encode()) == [
        good(2, "1", longest),
        good(2 + MOST_LINES, "3", "4"),
    ]
    rows = read(engine, tmp_path, f'a,b\n1,"{longest}\nx"\n3,4\n'.encode())
    assert rows[0] == bad(2, OPEN_QUOTE, '1,"x')
    assert [row[LINE] for row in rows] == list(range(2, 4 + MOST_LINES))
    assert rows[-1] == good(3 + MOST_LINES, "3", "4")


@pytest.mark.parametrize("filler", ["x", '"', "é"])
def test_a_record_may_be_as_long_as_the_documented_limit(engine: Engine, tmp_path: Path, filler: str) -> None:
    field = filler * ((LONGEST_RECORD - 4) // len(filler.encode()))
    quoted = f'"{field}"' if filler != '"' else f'"{field[: len(field) // 2 * 2]}"'
    value = quoted[1:-1].replace('""', '"')
    over, plain = b"1," + b"\xff" * (LONGEST_RECORD + 10), "1," + "x" * LONGEST_RECORD
    rows = read(engine, tmp_path, b"a,b\n1," + quoted.encode() + b"\n" + over + b"\n" + plain.encode())
    assert rows == [
        good(2, "1", value),
        bad(
            3, f"it has {len(over)} bytes; at most {LONGEST_RECORD} are allowed", "1," + "\\xff" * (LONGEST_RECORD - 2)
        ),
        bad(4, f"it has {len(plain)} bytes; at most {LONGEST_RECORD} are allowed", plain[:LONGEST_RECORD]),
    ]


@pytest.mark.requirement("PLT-6")
def test_no_line_of_a_large_file_is_lost_because_of_an_open_quote(engine: Engine, tmp_path: Path) -> None:
    lines = [f"{number},{'x' * 50}" for number in range(200_000)]
    broken = {3, 100_000, 199_999}
    for number in broken:
        lines[number] = f'{number},"x'
    rows = read(engine, tmp_path, "\n".join(["a,b", *lines]).encode())
    assert [row[LINE] for row in rows] == list(range(2, 200_002))
    assert {row[LINE] - 2: row[TEXT] for row in rows if row[ERROR]} == {number: lines[number] for number in broken}
    assert all(row["a"] == str(row[LINE] - 2) for row in rows if not row[ERROR])


def test_quoted_line_breaks_are_kept_throughout_a_file_that_is_read_in_pieces(engine: Engine, tmp_path: Path) -> None:
    value = 'x"\n' * 30
    content = io.StringIO()
    csv.writer(content, lineterminator="\n").writerows(
        [["a", "b"], *([str(number), value] for number in range(20_000))]
    )
    rows = read(engine, tmp_path, content.getvalue().encode())
    assert [(row[LINE], row["a"]) for row in rows] == [(2 + 31 * number, str(number)) for number in range(20_000)]
    assert {row["b"] for row in rows} == {value}


text = st.text(st.sampled_from('aé7 ,"\n\r;\\#'), max_size=6)


def as_lines(row: list[str]) -> bytes:
    content = io.StringIO()
    csv.writer(content, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(row)
    return content.getvalue().encode()


damaged = st.sampled_from([b"1\n", b"1,2,3\n", b"\xff,2\n", b"1,\0\n", b'"1"2,3\n', b"1\r2,3\n"])


@pytest.mark.requirement("PLT-6")
@settings(max_examples=60)
@given(st.lists(st.lists(text, min_size=2, max_size=2) | damaged | st.sampled_from([b"\n", b"\r\n"]), min_size=1))
def test_valid_fields_are_read_back_exactly_and_damaged_lines_are_kept_as_text(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, parts: list[list[str] | bytes]
) -> None:
    expected: list[tuple[int, Any]] = []
    content, line = b"a,b\n", 2
    for part in parts:
        written = part if isinstance(part, bytes) else as_lines(part)
        if not isinstance(part, bytes):
            expected.append((line, tuple(value or None for value in part)))
        elif part.strip():
            expected.append((line, part.decode(errors="backslashreplace").rstrip("\r\n")))
        content, line = content + written, line + written.count(b"\n")
    if not expected:
        content, expected = content + b"1,2\n", [(line, ("1", "2"))]
    rows = read(engine, tmp_path_factory.getbasetemp(), content)
    assert [(row[LINE], row[TEXT] if row[ERROR] else (row["a"], row["b"])) for row in rows] == expected


@pytest.mark.requirement("PLT-6")
@settings(max_examples=100)
@given(
    st.lists(st.sampled_from([b"a", b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"1,2\n", b'1,"', b'",2\n']), max_size=40)
)
@example([b'1,"', b"a", b"\n", b"1,2\n", b'",2\n'])
def test_each_line_of_random_text_is_part_of_exactly_one_row(
    engine: Engine, tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]
) -> None:
    body = b"".join(parts) + b"\n1,2\n"
    rows = read(engine, tmp_path_factory.getbasetemp(), b"a,b\n" + body)
    covered: list[int] = []
    for row in rows:
        breaks = sum((row[name] or "").count("\n") for name in (TEXT, "a", "b"))
        covered += range(row[LINE], row[LINE] + breaks + 1)
    assert len(covered) == len(set(covered))
    lines = enumerate(body.split(b"\n"), start=2)
    assert {number for number, line in lines if line.strip(b"\r")} <= set(covered)
