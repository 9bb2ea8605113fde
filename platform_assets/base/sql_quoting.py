"""Names and texts as SQL writes them, for statements that take no parameters in that place."""

from __future__ import annotations


def sql_name(identifier: str) -> str:
    """An identifier, quoted."""
    return '"' + identifier.replace('"', '""') + '"'


def sql_text(value: str) -> str:
    """A string literal."""
    return "'" + value.replace("'", "''") + "'"
