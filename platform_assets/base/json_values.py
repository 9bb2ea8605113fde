"""JSON: its media type, and values as it can hold them, and PostgreSQL's `jsonb` as well."""

from __future__ import annotations

import math
from typing import Any

JSON = "application/json"
"""Its media type."""


def as_json(value: Any) -> Any:
    """The same without what JSON has no words for.

    Numbers that are none become None; numpy's become Python's; NUL and halves of surrogate pairs in texts, which
    PostgreSQL refuses, become marks for what cannot be shown.
    """
    if isinstance(value, dict):
        return {as_json(str(name)): as_json(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value
