"""Pagination: the items of a page and its links to other pages."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.web.paging import Page


@given(st.integers(0, 30), st.integers(1, 8))
def test_all_pages_together_contain_the_whole_list(total: int, size: int) -> None:
    items = list(range(total))
    pages = [Page(number, size, total, "/things") for number in range(total // size + 2)]
    assert [item for page in pages for item in page.of(items)] == items
    # Every page except the last links to the next page.
    assert [page.number for page in pages if "next" in page.neighbours] == list(range(max(0, (total - 1) // size)))


@pytest.mark.parametrize(
    ("number", "link"),
    [
        (0, '</things?a=1&a=2&page=1>; rel="next"'),
        (1, '</things?a=1&a=2&page=0>; rel="prev", </things?a=1&a=2&page=2>; rel="next"'),
        (2, '</things?a=1&a=2&page=1>; rel="prev"'),
        (9, '</things?a=1&a=2&page=2>; rel="prev"'),
    ],
)
def test_a_page_links_to_its_neighbours_with_the_query_of_the_request(number: int, link: str) -> None:
    page = Page(number, 2, 5, "/things", [("a", "1"), ("page", "7"), ("a", "2")])
    assert page.headers == {"X-Total-Count": "5", "Link": link}


def test_a_list_on_one_page_has_no_links() -> None:
    assert Page(0, 5, 5, "/things").headers == {"X-Total-Count": "5"}
