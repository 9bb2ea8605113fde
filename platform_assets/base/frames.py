"""The two forms in which an asset takes and gives a table, nameable without importing a library; their columns' names.

`Frame` is a pandas DataFrame, `Expression` an Ibis table expression that DuckDB streams. Dagster reads
annotations at run time, and importing pandas and Ibis would make every process that loads
the definitions pay for them, so at run time these are stand-ins which recognise the real classes.
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
        """Stands for `pandas.DataFrame`."""

        package, real_name = "pandas", "DataFrame"

    class Expression(metaclass=_StandIn):
        """Stands for `ibis.expr.types.Table`."""

        package, real_name = "ibis", "Table"


__all__ = ["Expression", "Frame", "refuse_doubled_columns"]


def refuse_doubled_columns(names: Sequence[str]) -> None:
    """Refuse names of columns that a table cannot tell apart.

    Raises
    ------
    SchemaError
        Two names are the same, or differ only in case.
    """
    counts = Counter(name.lower() for name in names)
    doubled = sorted(name for name in names if counts[name.lower()] > 1)
    if doubled:
        raise SchemaError(f"columns {doubled} have the same name, or differ only in case; rename all but one")
