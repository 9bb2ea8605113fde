"""Format numbers as text for display."""

from __future__ import annotations


def significant(value: float, digits: int = 3) -> str:
    """Format a number with the given significant digits, or as an integer if its integer part has more digits."""
    return f"{value:,.0f}" if abs(value) >= 10**digits else f"{value:.{digits}g}"
