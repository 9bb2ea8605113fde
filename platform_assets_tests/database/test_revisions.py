from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import DatabaseError
from platform_assets.database.revisions import find_branches, refuse_unknown, wanted_heads

if TYPE_CHECKING:
    from pathlib import Path

NEWEST = max(find_branches()[0].files)
"""Newest revision of the platform's branch."""


@pytest.fixture
def domains(tmp_path: Path) -> Path:
    for name in ("shop_0002_receipts.py", "shop_0010_prices.py", "shop_0001_orders.py"):
        (tmp_path / "shop" / "migrations").mkdir(parents=True, exist_ok=True)
        (tmp_path / "shop" / "migrations" / name).touch()
    (tmp_path / "bakery_2" / "migrations").mkdir(parents=True)
    (tmp_path / "bakery_2" / "migrations" / "bakery_2_0001_loaves.py").touch()
    # Add a folder that is left over from a deleted domain, and a domain without tables. Both must be ignored.
    (tmp_path / "gone" / "migrations" / "__pycache__").mkdir(parents=True)
    (tmp_path / "plain").mkdir()
    return tmp_path


def test_the_branch_of_the_platform_comes_first_and_revisions_are_sorted_by_number(domains: Path) -> None:
    assert {branch.label: list(branch.files) for branch in find_branches(domains)} == {
        "platform": [f"{number:04}" for number in range(1, int(NEWEST) + 1)],
        "bakery_2": ["bakery_2_0001"],
        "shop": ["shop_0001", "shop_0002", "shop_0010"],
    }
    assert [branch.label for branch in find_branches(domains)] == ["platform", "bakery_2", "shop"]
    assert wanted_heads(domains) == {NEWEST, "bakery_2_0001", "shop_0010"}


@pytest.mark.parametrize("name", ["orders.py", "0003_orders.py", "shop_1_orders.py", "bakery_2_0003_orders.py"])
def test_a_migration_without_a_revision_in_its_file_name_is_refused(domains: Path, name: str) -> None:
    path = domains / "shop" / "migrations" / name
    path.touch()
    with pytest.raises(DatabaseError) as error:
        find_branches(domains)
    assert str(error.value) == (
        f"the name of the migration {path} does not start with a revision; rename the file, for example to "
        f"shop_0001_{name}"
    )


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ({NEWEST, "gone_0002"}, r"has tables of the domain gone at revision gone_0002, .*gone/migrations; restore"),
        ({"0099", "shop_0010"}, rf"is at revision 0099, but this code knows only {NEWEST} and older; install"),
        ({NEWEST, "shop_0011"}, r"is at revision shop_0011, but this code knows only shop_0010 and older; install"),
    ],
)
def test_an_unknown_revision_is_refused(domains: Path, heads: set[str], said: str) -> None:
    with pytest.raises(DatabaseError, match=f"^the database there {said}"):
        refuse_unknown(heads, "there", domains)


@pytest.mark.parametrize("heads", [set(), {"0001"}, {"0003", "shop_0001"}, {"bakery_2_0001"}])
def test_older_revisions_are_accepted(domains: Path, heads: set[str]) -> None:
    refuse_unknown(heads, "there", domains)
