"""Format numbers for pages."""

from __future__ import annotations

from platform_assets.base.number_text import significant

UNDEFINED = "undefined"
_MINUS = "\N{MINUS SIGN}"

Number = float | int | None


def number(value: Number) -> str:
    """Format a number: integers in full, others with three significant digits."""
    if value is None:
        return UNDEFINED
    text = f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else significant(value)
    return text.replace("-", _MINUS)


def signed(value: Number) -> str:
    """Format a difference with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text
