"""SQL quoting of names and texts, for places where statements take no parameters."""

from __future__ import annotations


def sql_name(identifier: str) -> str:
    """Quote an identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def sql_text(value: str) -> str:
    """Quote a text as a string literal."""
    return "'" + value.replace("'", "''") + "'"
