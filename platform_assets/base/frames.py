"""Types of the tables that assets take and return, and a check of their column names.

`Frame` is a pandas DataFrame. `Expression` is an Ibis table expression, which DuckDB streams. At run time, both are
stand-in classes, and `isinstance` accepts instances of the real classes. The stand-ins exist because Dagster evaluates
annotations, and importing pandas and Ibis would slow down every process that loads the definitions.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from platform_assets.base.errors import SchemaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ibis.expr.types import Table as Expression
    from pandas import DataFrame as Frame
else:

    class _StandIn(type):
        def __instancecheck__(cls, value: object) -> bool:
            return any(base.__module__.split(".")[0] == cls.package for base in type(value).__mro__) and (
                cls.real_name in {base.__name__ for base in type(value).__mro__}
            )

    class Frame(metaclass=_StandIn):
        """Stand-in for `pandas.DataFrame`."""

        package, real_name = "pandas", "DataFrame"

    class Expression(metaclass=_StandIn):
        """Stand-in for `ibis.expr.types.Table`."""

        package, real_name = "ibis", "Table"


__all__ = ["Expression", "Frame", "refuse_doubled_columns"]


def refuse_doubled_columns(names: Sequence[str]) -> None:
    """Refuse column names that are equal when case is ignored.

    Raises
    ------
    SchemaError
        Two columns have the same name. The message lists all such names.
    """
    counts = Counter(name.lower() for name in names)
    doubled = sorted(name for name in names if counts[name.lower()] > 1)
    if doubled:
        raise SchemaError(f"columns {doubled} have the same name, or differ only in case; rename all but one")
