"""A load of wrong but valid data can be undone: a rollback publishes a new version with the old rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd
import pytest

from platform_assets.base.errors import TableError
from platform_assets.lake.ancestry import Ancestry
from platform_assets.lake.lineage import Lineage
from platform_assets.lake.table_versions import SOURCE_DIGEST
from platform_assets.lake.undone_loads import UNDONE
from platform_assets_tests.lake.sales_lake import NAME, NOW, Lake, by_month, contents, sales

if TYPE_CHECKING:
    from platform_assets.lake.table_versions import TableVersion

pytestmark = pytest.mark.requirement("PLT-10")


def load(lake: Lake, digest: str, *amounts: float) -> TableVersion:
    return lake.publish(sales(*amounts), metadata={SOURCE_DIGEST: digest, "source": f"{digest}.csv", "run": digest})


def undo(lake: Lake, number: int) -> TableVersion:
    return lake.store.restore(NAME, number, "anna", "wrong currency").version


def test_a_rollback_publishes_the_old_rows_as_a_new_version_and_records_the_undone_versions(lake: Lake) -> None:
    good = load(lake, "good", 1, 2)
    wrong = [load(lake, f"wrong {number}", number) for number in (8, 9)]
    restored = lake.store.restore(NAME, good.version, "anna", "wrong currency")
    assert [one.version for one in restored.undone] == [one.version for one in wrong]
    current = lake.store.current(NAME)
    assert current == restored.version
    assert current.version > wrong[1].version
    assert (current.digest, current.rows, current.parts) == (good.digest, good.rows, good.parts)
    assert contents(lake.store.read(NAME)) == contents(sales(1, 2))
    assert current.metadata["run"] == "good"
    undone = current.metadata[UNDONE]
    assert (undone["by"], undone["reason"], undone["restored"]) == ("anna", "wrong currency", good.version)
    assert contents(lake.store.read(NAME, version=wrong[0].version)) == contents(sales(8))
    assert Ancestry(lake.store).find(NAME, wrong[0].version).undone.startswith("undone by anna at ")
    assert Ancestry(lake.store).find(NAME, good.version).undone == ""


def test_a_file_whose_load_was_undone_is_not_loaded_again_until_that_load_is_restored(folder_lake: Lake) -> None:
    good, wrong = load(folder_lake, "good", 1, 2), load(folder_lake, "wrong", 9)
    undo(folder_lake, good.version)
    with pytest.raises(
        TableError, match=r"wrong.csv has the same content .* that anna undid \(wrong currency\)"
    ) as error:
        load(folder_lake, "wrong", 9)
    assert f"table rollback {NAME} {wrong.version}" in str(error.value)
    assert contents(folder_lake.store.read(NAME)) == contents(sales(1, 2))
    undo(folder_lake, wrong.version)
    assert load(folder_lake, "wrong", 9).rows == 1
    with pytest.raises(TableError, match="has the same content"):
        load(folder_lake, "good", 1, 2)
    assert load(folder_lake, "new", 5, 6, 7).rows == 3


def test_a_load_of_the_same_rows_keeps_the_record_of_the_rollback(folder_lake: Lake) -> None:
    good, wrong = load(folder_lake, "good", 1, 2), load(folder_lake, "wrong", 9)
    undone = undo(folder_lake, good.version).metadata[UNDONE]
    lineage = Lineage({"shop/items": good}, None, lambda _: good.version)
    metadata = {SOURCE_DIGEST: "good", "run": "later"}
    restated = folder_lake.publish(sales(1, 2), metadata=metadata, lineage=lineage)
    assert (restated.metadata["run"], restated.metadata[UNDONE]) == ("later", undone)
    assert Ancestry(folder_lake.store).find(NAME, wrong.version).undone.startswith("undone by anna at ")
    with pytest.raises(TableError, match="has the same content"):
        load(folder_lake, "wrong", 9)


def test_a_rollback_without_a_reason_is_refused(folder_lake: Lake) -> None:
    good, wrong = load(folder_lake, "good", 1, 2), load(folder_lake, "wrong", 9)
    with pytest.raises(TableError, match="was not rolled back: give a reason"):
        folder_lake.store.restore(NAME, good.version, "anna", " ")
    assert folder_lake.store.current(NAME) == wrong


def test_a_rollback_can_be_repeated_after_an_interruption(folder_lake: Lake) -> None:
    good, wrong = load(folder_lake, "good", 1, 2), load(folder_lake, "wrong", 9)
    first = folder_lake.store.restore(NAME, good.version, "anna", "wrong")
    again = folder_lake.store.restore(NAME, good.version, "anna", "wrong")
    assert again == first
    assert [one.version for one in again.undone] == [wrong.version]


def test_a_rollback_restores_the_columns_and_partitions_of_the_old_version(folder_lake: Lake) -> None:
    folder_lake.publish(by_month(jan=1, feb=2), "month")
    folder_lake.publish(by_month(feb=9).assign(colour="red"), "month")
    folder_lake.store.restore(NAME, 0, "anna", "wrong")
    assert contents(folder_lake.store.read(NAME)[["month", "amount"]]) == [("feb", 2.0), ("jan", 1.0)]
    assert "colour" not in folder_lake.store.read(NAME)
    folder_lake.publish(by_month(feb=3), "month", partitions=["feb"])
    assert contents(folder_lake.store.read(NAME)[["month", "amount"]]) == [("feb", 3.0), ("jan", 1.0)]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (7, "shop/sales has no version 7; the newest versions are 1, 0"),
        (1, "shop/sales already has the rows of version 1; its current version is 1"),
        (0, "version 0 of shop/sales cannot be read any more"),
    ],
)
def test_a_version_that_cannot_be_restored_is_refused(folder_lake: Lake, number: int, message: str) -> None:
    load(folder_lake, "good", 1, 2)
    load(folder_lake, "wrong", 9)
    folder_lake.store.vacuum(NAME, NOW)
    with pytest.raises(TableError, match=message):
        undo(folder_lake, number)
    assert contents(folder_lake.store.read(NAME)) == contents(sales(9))


def test_a_rollback_of_a_missing_or_accumulating_table_is_refused(folder_lake: Lake) -> None:
    with pytest.raises(TableError, match="there is no table shop/sales"):
        undo(folder_lake, 0)
    for batch in (1, 2):
        with folder_lake.engine.stage(pd.DataFrame({"id": [batch]})) as staged:
            folder_lake.store.append(NAME, staged, batch)
    with pytest.raises(TableError, match="accumulates the rows of files and cannot be rolled back"):
        undo(folder_lake, 0)
