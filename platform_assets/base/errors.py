"""The errors that a person can do something about.

Each says what was found, what is needed, and what gets there. Whoever shows them to a person
(command line, Dagster, HTTP) prints the message alone; any other exception is a defect.
"""

from __future__ import annotations


class PlatformError(Exception):
    """The platform cannot go on, and the message tells a person why and what would help."""


class SourceError(PlatformError):
    """A source is missing, unreachable, or not what it should be."""


class TableError(PlatformError):
    """A table, or a version of it, is not there or cannot be written."""


class SchemaError(PlatformError):
    """A frame or expression does not have the columns that its table declares."""


class ArtefactError(PlatformError):
    """A stored model is missing, was altered, or is not what it should be; or one cannot be stored."""


class RegistryError(PlatformError):
    """A model, version or alias is not registered, or the registry cannot be reached."""


class NotFound(PlatformError):  # noqa: N818 - says what it is
    """What was asked for by its key is not there."""


class DatabaseError(PlatformError):
    """PostgreSQL is missing, unreachable, or not at the version that this code needs."""


class TrainingError(PlatformError):
    """A model cannot be trained or judged on these rows, or what is demanded of it makes no sense."""


def first_line(error: BaseException) -> str:
    """What an error of a library says first; what follows is for its developers."""
    return next(iter(str(error).splitlines()), "no reason given")
