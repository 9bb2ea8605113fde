"""The two forms in which an asset takes and gives a table, nameable without importing either library.

`Frame` is a pandas DataFrame, `Expression` an Ibis table expression that DuckDB streams. Dagster reads
annotations at run time, and importing pandas and Ibis would make every process that loads
the definitions pay for them, so at run time these are stand-ins which recognise the real classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
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


__all__ = ["Expression", "Frame"]
