"""Numbers as pages show them."""

from __future__ import annotations

UNDEFINED = "undefined"
_MINUS = "\N{MINUS SIGN}"

Number = float | int | None


def number(value: Number) -> str:
    """A number for people: whole ones in full, others with three digits that count."""
    if value is None:
        return UNDEFINED
    text = f"{value:,.0f}" if float(value).is_integer() and abs(value) > 1 else f"{value:.3g}"
    return text.replace("-", _MINUS)


def signed(value: Number) -> str:
    """A difference for people, with its sign."""
    text = number(value)
    return f"+{text}" if value is not None and value > 0 else text
