"""Numbers as text, for people."""

from __future__ import annotations


def significant(value: float, digits: int = 3) -> str:
    """Format a number with some significant digits; round a number with more digits to an integer, without exponent."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
