"""Transactions of the stores that read and write a few rows at a time."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import DatabaseError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    import psycopg


@contextmanager
def transaction(
    connect: Callable[[], AbstractContextManager[psycopg.Connection[Any]]], what: str
) -> Iterator[psycopg.Connection[Any]]:
    """Yield a connection in a transaction, in which each statement sees all changes that were committed before it.

    Parameters
    ----------
    connect
        Context manager that yields a connection to the platform's database.
    what
        Name of the items that are read or stored, in the plural, for the error message.

    Raises
    ------
    DatabaseError
        The database does not respond.
    """
    import psycopg

    try:
        with connect() as connection, connection.transaction():
            connection.execute("set transaction isolation level read committed")
            yield connection
    except psycopg.Error as error:
        raise DatabaseError(
            f"{what} cannot be read or stored: PostgreSQL failed ({first_line(error)}); run `platform-assets "
            "doctor` to see what is reachable"
        ) from None
