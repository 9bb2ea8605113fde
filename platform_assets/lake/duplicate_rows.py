"""Duplicate rows: drop copies of a row, and mark all rows with the same key and different values."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.lake.broken_rules import RULES, joined
from platform_assets.landing.row_writer import LINE

if TYPE_CHECKING:
    import ibis.expr.types as ir

    from platform_assets.lake.schemas import TableSchema

_CONTENTS, _FIRST_LINE, _ROWS = "different contents", "first line", "rows of key"


def doubled_keys(typed: ir.Table, schema: TableSchema) -> ir.Table:
    """Return each key that several rows have, with the columns that `without_duplicates` and `number_of_copies` need.

    The query reads all rows, so store its result before you use it several times.
    """
    import ibis

    keys = list(schema.key)
    doubled = typed.group_by(keys).having(typed.count() > 1).agg(copies=typed.count())
    # A row whose key is null is never a copy, because the joins do not match nulls.
    copies = typed.semi_join(doubled, keys)
    # Compare the original texts too, because every unreadable value becomes null in the typed column.
    content = ibis.struct({name: copies[name] for name in copies.columns if name != LINE})
    return copies.group_by(keys).agg(
        **{_CONTENTS: content.nunique(), _FIRST_LINE: copies[LINE].min(), _ROWS: copies.count()}
    )


def number_of_copies(doubled: ir.Table) -> int:
    """Return the number of rows that `without_duplicates` drops."""
    identical = doubled.filter(doubled[_CONTENTS] == 1)
    return int((identical[_ROWS] - 1).sum().to_pyarrow().as_py() or 0)


def without_duplicates(typed: ir.Table, doubled: ir.Table, schema: TableSchema) -> ir.Table:
    """Return the rows without copies. Rows with the same key and different values break the rule `<key>_is_unique`."""
    import ibis

    keys = list(schema.key)
    judged = typed.left_join(doubled, keys)
    conflicting = judged[_CONTENTS] > 1
    twin = (judged[_CONTENTS] == 1) & (judged[LINE] != judged[_FIRST_LINE])
    rule = f"{'_and_'.join(keys)}_is_unique"
    rules = joined(judged[RULES].nullif(""), ibis.ifelse(conflicting, rule, ibis.null("string")))
    return judged.filter(~twin.fill_null(False)).select(  # noqa: FBT003 - Ibis takes no keyword
        *(column.name for column in schema.columns), LINE, **{RULES: rules}
    )
