"""Broken rules: the names of the rules that a row breaks, in one column."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    import ibis.expr.types as ir

RULES = "broken_rules"
"""Name of the column with broken rules."""
_SEPARATOR = ", "


def names_of_broken(broken: Mapping[str, ir.BooleanValue]) -> ir.StringValue:
    """Return the names of the rules that a row breaks. `broken` maps each rule to whether the row breaks it."""
    import ibis

    return joined(*(ibis.ifelse(is_broken, name, ibis.null("string")) for name, is_broken in broken.items()))


def joined(*texts: ir.StringValue) -> ir.StringValue:
    """Join the texts that are not null, comma-separated."""
    import ibis

    return ibis.literal(_SEPARATOR).join(list(texts))


def breaking(bad: ir.Table, rules: list[str]) -> ir.Table:
    """Return the bad rows that break at least one of the given rules."""
    import ibis

    broken = bad[RULES].split(_SEPARATOR)
    return bad.filter(ibis.or_(*(broken.contains(rule) for rule in rules)))


def count_by_rule(bad: ir.Table) -> list[tuple[str, int]]:
    """Count the rows that break each rule, the most frequent rule first."""
    rules = bad.select(rule=bad[RULES].split(_SEPARATOR).unnest())
    counted = rules.group_by("rule").agg(rows=rules.count())
    ordered = counted.order_by([counted.rows.desc(), counted.rule]).to_pyarrow().to_pylist()
    return [(row["rule"], row["rows"]) for row in ordered]
