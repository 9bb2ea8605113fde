"""SQL quoting of identifiers and strings, for places where SQL allows no parameters."""

from __future__ import annotations


def sql_name(identifier: str) -> str:
    """Quote an identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def sql_text(value: str) -> str:
    """Quote a string literal."""
    return "'" + value.replace("'", "''") + "'"
