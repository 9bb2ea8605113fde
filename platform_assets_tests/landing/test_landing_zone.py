"""Files of a zone land once each, whatever happens to their names and times."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.landing.yard import HEADER, PARCELS

if TYPE_CHECKING:
    import dagster as dg

    from platform_assets_tests.landing.yard import Yard


@pytest.mark.requirement("SEN-1")
def test_each_content_lands_once_with_all_its_names(yard: Yard, instance: dg.DagsterInstance) -> None:
    yard.drop("north/a.txt", f"{HEADER}1,2\n3,4\n")
    yard.drop("b.txt", f"{HEADER}5,6\n")
    yard.run(instance)
    landed = [("b.txt", 2, 5.0), ("north/a.txt", 2, 1.0), ("north/a.txt", 3, 3.0)]
    assert yard.rows() == landed
    # The same content again: under another name, with a new time, and under a new name after a removal.
    yard.drop("copy.txt", f"{HEADER}1,2\n3,4\n")
    yard.touch("north/a.txt")
    yard.remove("b.txt")
    yard.drop("c.txt", f"{HEADER}5,6\n")
    yard.run(instance)
    assert yard.rows() == landed
    assert yard.states() == {"b.txt c.txt": "landed", "north/a.txt copy.txt": "landed"}
    assert len(yard.services.tables.versions(PARCELS.name)) == 1
    # A written file is a new one, and the old content stays.
    yard.drop("c.txt", f"{HEADER}7,6\n")
    yard.run(instance)
    assert yard.rows() == sorted([*landed, ("c.txt", 2, 7.0)])
