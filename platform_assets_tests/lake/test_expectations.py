"""Great Expectations finds the same bad rows as the quarantine's predicates, prints nothing and uses no network."""

from __future__ import annotations

import datetime as dt
import gc
import json
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import ibis
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from platform_assets.base.errors import PlatformError
from platform_assets.engine.query_engine import as_frame
from platform_assets.lake import expectations as helpers
from platform_assets.lake.expectations import (
    Expectation,
    has_a_word,
    has_at_most,
    has_rows,
    is_after,
    is_at_least,
    is_either,
    is_not_negative,
    is_null_when,
    is_one_of,
    is_paired_with,
    is_positive,
    is_present,
    is_present_unless,
    is_unique,
    is_within,
)
from platform_assets.lake.judgements import SAMPLE_ROWS, Judgement, judge
from platform_assets.lake.rule_judgements import judge_by_rules
from platform_assets_tests.queries import Query

if TYPE_CHECKING:
    from pathlib import Path

    import ibis.expr.types as ir

    from platform_assets.base.frames import Frame

EXACT = 2**53 + 1
LOW, HIGH = dt.date(1990, 1, 1), dt.date(2100, 12, 31)
DAY = dt.timedelta(days=1)
SCHEMA = pa.schema(
    [
        ("line", pa.int64()),
        ("i", pa.int64()),
        ("j", pa.int64()),
        ("x", pa.float64()),
        ("d", pa.date32()),
        ("e", pa.date32()),
        ("s", pa.string()),
    ]
)
ROW_RULES = [
    is_present("i"),
    is_present("x"),
    is_present("d"),
    is_present("s"),
    is_one_of("i", (0, 1)),
    is_one_of("s", ("F", "M", "")),
    is_positive("i", at_most=EXACT - 2),
    is_positive("x", at_most=100),
    is_not_negative("j"),
    is_not_negative("x"),
    is_within("i", 0, EXACT - 2),
    is_within("x", 0.0, 100.0),
    is_within("d", LOW, HIGH),
    is_after("d", "e"),
    is_at_least("i", "j"),
    is_null_when("x", "i", 0),
    is_present_unless("x", "i", 0),
    is_present_unless("s", "j", 1),
    has_a_word("s"),
    has_at_most("s", 2),
    is_paired_with("j", "s", {"F": 0, "M": 1}),
    *is_either("x", "s"),
]
whole_numbers = st.none() | st.sampled_from([-1, 0, 1, 2, EXACT - 2, EXACT - 1, EXACT, EXACT + 1])
dates = st.none() | st.sampled_from([LOW - DAY, LOW, HIGH, HIGH + DAY, dt.date(3021, 9, 18), dt.date(1, 1, 1)])
rows = st.lists(
    st.fixed_dictionaries(
        {
            "i": whole_numbers,
            "j": whole_numbers,
            "x": st.none()
            | st.sampled_from([-1e-300, -0.0, 5e-324, 100.0, 100.00000000000001, float("inf"), -float("inf")]),
            "d": dates,
            "e": dates,
            "s": st.none()
            | st.sampled_from(["F", "M", "f", "", " ", "\u00a0\n", "?!", "\u6570", "_", "\U0001f40d\u6570", "FMF"]),
        }
    ),
    max_size=20,
)


def table(drawn: list[dict[str, Any]]) -> ir.Table:
    return ibis.memtable(pa.Table.from_pylist([{"line": n, **row} for n, row in enumerate(drawn)], schema=SCHEMA))


def frame(**columns: list[Any]) -> Frame:
    types = {field.name: field.type for field in SCHEMA}
    return as_frame(ibis.memtable(pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})))


def which_hold(rows: ir.Table) -> ir.Table:
    """Return whether each line satisfies each rule: one row per line, and one column per rule, named by its index."""
    holds = [rule.holds(rows).fill_null(True) for rule in ROW_RULES if rule.holds]
    return rows.select("line", **{str(place): one for place, one in enumerate(holds)}).order_by("line")


WHICH_HOLD = Query(ibis.Schema.from_pyarrow(SCHEMA), which_hold)


def test_every_helper_for_expectations_is_compared_with_great_expectations() -> None:
    made = {name for name in vars(helpers) if name.startswith(("is_", "has_"))}
    compared = {name for name in globals() if name.startswith(("is_", "has_"))}
    assert made == compared
    used = {rule.kind for rule in [*ROW_RULES, is_unique("i"), has_rows()]}
    assert used == {
        "ExpectColumnValuesToNotBeNull",
        "ExpectColumnValuesToBeNull",
        "ExpectColumnValuesToBeInSet",
        "ExpectColumnValuesToBeBetween",
        "ExpectColumnPairValuesAToBeGreaterThanB",
        "ExpectColumnValuesToBeUnique",
        "ExpectColumnValuesToMatchRegex",
        "ExpectColumnValueLengthsToBeBetween",
        "ExpectColumnPairValuesToBeInSet",
        "ExpectTableRowCountToBeBetween",
    }


@pytest.mark.requirement("PLT-5", "PLT-6", "CRE-5")
@settings(max_examples=15)
@given(rows)
@example([{"i": EXACT, "j": EXACT + 1, "x": None, "d": None, "e": None, "s": None}])
@example([{"i": EXACT + 1, "j": EXACT, "x": 0.0, "d": LOW, "e": LOW, "s": ""}, {"i": None, "j": None, "x": None}])
@example([{"i": None, "j": None, "x": None, "d": None, "e": None, "s": None}] * 2)
@example([{"i": 0, "j": 0, "x": 1.0, "d": HIGH, "e": LOW, "s": "F"}, {"i": 1, "j": 1, "x": 1.0, "d": LOW, "s": "M"}])
def test_expectations_and_predicates_agree_on_every_row(drawn: list[dict[str, Any]]) -> None:
    rows, rules = table(drawn), [*ROW_RULES, is_unique("i"), has_rows(2)]
    judged = judge(as_frame(rows), rules, ("line",))
    answers = WHICH_HOLD({"line": line, **row} for line, row in enumerate(drawn))
    for place, (rule, judgement) in enumerate(zip(ROW_RULES, judged[:-2], strict=True)):
        broken = [row["line"] for row in answers if not row[str(place)]]
        assert (judgement.name, judgement.broken) == (rule.name, len(broken))
        assert (judgement.passed, judgement.rows) == (not broken, len(drawn))
        assert [row["line"] for row in judgement.samples] == broken[:SAMPLE_ROWS]
    counts = Counter(row["i"] for row in drawn if row["i"] is not None)
    doubled = sum(count for count in counts.values() if count > 1)
    assert (judged[-2].broken, judged[-2].passed) == (doubled, not doubled)
    assert (judged[-1].passed, judged[-1].observed) == (len(drawn) >= 2, str(len(drawn)))
    # The rules that are used for large tables give the same results.
    by_rules = judge_by_rules(rows, rules, ("line",))
    assert [replace(one, samples=()) for one in by_rules] == [replace(one, samples=()) for one in judged]
    assert [lines(one) for one in by_rules[:-1]] == [lines(one) for one in judged[:-1]]


def lines(judgement: Judgement) -> list[Any]:
    return [sample["line"] for sample in judgement.samples]


def test_the_error_names_an_expectation_without_a_rule() -> None:
    rule = Expectation("i_is_odd", "Every i is odd.", "ExpectColumnValuesToBeInSet", {"column": "i"}, ("i",))
    with pytest.raises(PlatformError, match="i_is_odd .*ExpectColumnValuesToBeInSet.* has no rule for large tables"):
        judge_by_rules(table([]), [rule], ())


# Judgements


@pytest.mark.requirement("PLT-5")
def test_a_judgement_shows_sample_rows_and_their_keys() -> None:
    [judgement] = judge(
        frame(i=[*range(EXACT, EXACT + 7), None], line=list(range(8))), [is_within("i", 0, 9)], ("line",)
    )
    assert (judgement.passed, judgement.rows, judgement.broken) == (False, 8, 7)
    assert judgement.samples == tuple({"i": EXACT + n, "line": n} for n in range(SAMPLE_ROWS))
    assert json.loads(json.dumps(judgement.samples)) == list(judgement.samples)


@pytest.mark.requirement("PLT-5")
def test_samples_show_all_checked_columns() -> None:
    columns = frame(i=[1, 1], x=[1.5, 2.5], s=["a", "b"], d=[LOW, HIGH], e=[HIGH, LOW], line=[EXACT, None])
    shown = judge(columns, [is_unique("i"), is_positive("x", at_most=2), is_after("d", "e")], ("line", "s"))
    assert shown[0].samples == ({"i": 1, "line": EXACT, "s": "a"}, {"i": 1, "line": None, "s": "b"})
    assert shown[1].samples == ({"x": 2.5, "line": None, "s": "b"},)
    [dates] = shown[2].samples
    assert (str(dates["d"])[:10], str(dates["e"])[:10], dates["line"]) == (str(LOW), str(HIGH), EXACT)


def test_times_with_a_time_zone_are_compared_as_instants() -> None:
    early, late = (pd.Timestamp(f"2026-01-01T{hour}:00:00", tz="UTC") for hour in (11, 12))
    same = pd.Timestamp("2026-01-01T13:00:00", tz="Europe/Madrid")
    rows = pd.DataFrame({"a": [late, late, early, None], "b": [early, same.tz_convert("UTC"), late, late]})
    bounds = is_within("a", dt.datetime(2026, 1, 1, 12, 30, tzinfo=dt.timezone(dt.timedelta(hours=1))), late)
    assert [one.broken for one in judge(rows, [is_at_least("a", "b"), bounds], ())] == [1, 1]


def test_judgements_have_the_order_of_the_expectations_even_if_names_repeat() -> None:
    judged = judge(frame(i=[1], j=[-1]), [has_rows(2), is_not_negative("j"), has_rows(1), is_not_negative("i")], ("i",))
    assert [judgement.passed for judgement in judged] == [False, False, True, True]
    assert judge(frame(i=[1]), [], ("i",)) == []


def test_checked_rows_are_released_from_memory() -> None:
    judge(rows := pd.DataFrame({"i": [1] * 4321}), [is_not_negative("i")], ("i",))
    del rows
    gc.collect()
    assert not [one for one in gc.get_objects() if type(one) is pd.DataFrame and len(one) == 4321]


@pytest.mark.parametrize(
    ("kind", "arguments", "message"),
    [
        ("ExpectNothing", {}, "is declared incorrectly: module .* has no attribute 'ExpectNothing'"),
        (
            "ExpectColumnValuesToBeInSet",
            {"column": "i", "values": [1]},
            "is declared incorrectly: .*value_set field required",
        ),
        ("ExpectColumnValuesToBeBetween", {"column": "i"}, "is declared incorrectly: .*cannot both be None"),
        ("ExpectColumnValuesToNotBeNull", {"column": "k"}, 'cannot be evaluated: .*column "k" .* does not exist'),
        ("ExpectColumnValuesToBeBetween", {"column": "s", "min_value": 1}, "cannot be evaluated: .* same type"),
    ],
)
def test_the_error_names_an_expectation_that_cannot_be_evaluated(
    kind: str, arguments: dict[str, Any], message: str
) -> None:
    rule = Expectation("i_is_odd", "Every i is odd.", kind, arguments)
    with pytest.raises(PlatformError, match=f"^the expectation i_is_odd {message}") as caught:
        judge(frame(i=[1], s=["x"]), [is_present("i"), rule], ())
    assert "Traceback" not in str(caught.value)


ALONE = """
import sys
written = []

def watch(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.sendto"}:
        raise SystemExit(f"{event} {arguments}")

sys.addaudithook(watch)
import pandas as pd
from platform_assets.lake.expectations import is_positive
from platform_assets.lake.judgements import judge

[judgement] = judge(pd.DataFrame({"x": [1.0, -1.0]}), [is_positive("x", at_most=9)], ("x",))
assert judgement.broken == 1
"""


@pytest.mark.requirement("PLT-5")
def test_checking_prints_nothing_uses_no_network_and_leaves_no_file(tmp_path: Path) -> None:
    places = {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": sys.path[0],
    }
    done = subprocess.run(
        [sys.executable, "-c", ALONE], env=places, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert sorted(path.name for path in tmp_path.rglob("*")) == []
