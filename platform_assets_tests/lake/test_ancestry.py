"""`Ancestry` finds the table versions from which a version was made, even those whose rows were removed."""

from __future__ import annotations

import pytest

from platform_assets.lake.ancestry import Ancestry
from platform_assets.lake.lineage import Lineage
from platform_assets_tests.lake.sales_lake import NOW, Lake, sales

pytestmark = pytest.mark.requirement("MON-4")


def made(lake: Lake, name: str, *sources: str, amounts: tuple[float, ...] = (1.0,)) -> int:
    """Publish a table that was made from the newest versions of other tables; return its version number."""
    inputs = {source: lake.store.current(source) for source in sources}
    lineage = Lineage(inputs, lake.store.current(name), lambda _: 99) if sources else None
    return lake.publish(sales(*amounts), name=name, lineage=lineage, metadata={"run": name}).version


def test_the_closure_contains_all_ancestors_back_to_the_sources(folder_lake: Lake) -> None:
    made(folder_lake, "shop/a")
    first = made(folder_lake, "shop/b", "shop/a")
    made(folder_lake, "shop/a", amounts=(2, 3))
    second = made(folder_lake, "shop/b", "shop/a", amounts=(4,))
    made(folder_lake, "shop/c", "shop/a", "shop/b")
    ancestry = Ancestry(folder_lake.store)
    assert ancestry.closure({"shop/b": {first}}) == {"shop/b": {first}, "shop/a": {0}}
    assert ancestry.closure({"shop/c": {0}}) == {"shop/c": {0}, "shop/b": {second}, "shop/a": {1}}
    assert ancestry.closure({"shop/gone": {3}}) == {"shop/gone": {3}}


def test_the_reason_is_given_if_the_rows_or_the_metadata_of_a_version_are_missing(folder_lake: Lake) -> None:
    made(folder_lake, "shop/a")
    made(folder_lake, "shop/a", amounts=(2, 3))
    folder_lake.store.vacuum("shop/a", NOW)
    ancestry = Ancestry(folder_lake.store)
    removed = ancestry.find("shop/a", 0)
    assert removed.version
    assert removed.version.metadata["run"] == "shop/a"
    assert "removed after the retention period" in removed.missing
    assert ancestry.find("shop/a", 1).missing == ""
    assert ancestry.find("shop/a", 8).missing == "the lake has no version 8 of shop/a"
    assert "there is no table shop/b" in ancestry.find("shop/b", 0).missing
