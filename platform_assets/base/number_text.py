"""Numbers as text, for people."""

from __future__ import annotations


def significant(value: float, digits: int = 3) -> str:
    """Format a number with some significant digits; write larger numbers in full, without an exponent."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
