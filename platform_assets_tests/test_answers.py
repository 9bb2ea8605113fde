"""`docs/answers.md` covers each topic of requirement OPS-6, names its evidence, and has a source for every figure.

Each section of `docs/decisions.md` has the same form, and a source for every figure. `test_docs.py` checks that the
links of both pages resolve.
"""

from __future__ import annotations

import re

import pytest

from platform_assets_tests.requirements import ROOT, known_requirements

PAGE = ROOT / "docs" / "answers.md"
_LINK = re.compile(r"\]\(([^)#\s]+)[^)]*\)")
_CODE = re.compile(r"`[^`]+`")
# Figures: numbers with a decimal point, and numbers with three or more digits.
_FIGURE = re.compile(r"(?<![\w.-])\d[\d,]*\.\d+|(?<![\w.-])\d[\d,]{2,}(?![\w-])")
_SECTION = re.compile(r"^## (.+)\n((?:(?!## ).*\n)*)", re.MULTILINE)
SECTIONS = dict(_SECTION.findall(PAGE.read_text()))
# The last section of the page lists links to other pages.
DECISIONS = dict(_SECTION.findall((PAGE.parent / "decisions.md").read_text())[:-1])


def required_topics() -> list[str]:
    text = known_requirements()["OPS-6"]
    return [topic.strip() for topic in text.partition("that proves it:")[2].rstrip(".").split(";")]


def figures_without_a_source(section: str) -> list[str]:
    """Return the figures in a section that do not occur in any file to which the section links."""
    linked = {(PAGE.parent / target).resolve() for target in _LINK.findall(section) if ":" not in target}
    evidence = " ".join(file.read_text() for file in linked if file.is_file()).replace(",", "").replace("_", "")
    figures = _FIGURE.findall(_CODE.sub("", _LINK.sub("]", section)))
    return [one for one in figures if not re.search(rf"(?<![\d.]){re.escape(one.replace(',', ''))}(?!\d)", evidence)]


@pytest.mark.requirement("OPS-6")
def test_every_topic_of_requirement_ops_6_has_a_section() -> None:
    rows = re.findall(r"^\| (.+) \| \[(.+)\]\(#.+\) \|$", PAGE.read_text(), re.MULTILINE)
    assert [topic for topic, _ in rows] == required_topics()
    assert [question for _, question in rows] == list(SECTIONS)


@pytest.mark.requirement("OPS-6")
@pytest.mark.parametrize("question", SECTIONS)
def test_an_answer_links_to_code_and_to_the_source_of_each_figure(question: str) -> None:
    assert re.search(r"\.(py|toml|yml)\)", SECTIONS[question]), "it links to no code"
    assert figures_without_a_source(SECTIONS[question]) == []


@pytest.mark.requirement("OPS-4")
@pytest.mark.parametrize("decision", DECISIONS)
def test_a_decision_has_three_parts_and_a_source_of_each_figure(decision: str) -> None:
    labels = re.findall(r"^- \*\*(\w+)", DECISIONS[decision], re.MULTILINE)
    assert labels == ["Context", "Consequences", "Reconsider"]
    assert figures_without_a_source(DECISIONS[decision] + decision) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A look-up takes 0.31 ms at 3,048 a second ([service](service.md#latency-and-throughput)).", []),
        ("It takes 0.123 ms ([service](service.md)).", ["0.123"]),
        ("It takes 3,048 and 3,049 ([service](service.md)).", ["3,049"]),
        ("It takes 0.22 ms.", ["0.22"]),
        ("`PORT=12345`, 95 %, Article 22", []),
    ],
)
def test_figures_without_a_source_are_found(text: str, expected: list[str]) -> None:
    assert figures_without_a_source(text) == expected
