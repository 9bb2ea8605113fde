"""The errors that a person can do something about, each with its HTTP status and exit code.

The message says what was found, what is needed, and how to get there. The command line, Dagster and the HTTP
service show it alone, without knowing who raised it; any other exception is a defect.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class PlatformError(Exception):
    """The platform cannot go on, and the message tells a person why and what would help.

    Attributes
    ----------
    status
        HTTP status of an answer that fails with it.
    problem
        Type of the problem for programs, without its prefix; empty where the status says it all.
    is_temporary
        Whether it makes sense to ask again in a moment.
    exit_code
        Of a command that fails with it.
    """

    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    problem: ClassVar[str] = ""
    is_temporary: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


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

    status = HTTPStatus.NOT_FOUND
    problem = "not-found"


class DatabaseError(PlatformError):
    """PostgreSQL is missing, unreachable, or not at the version that this code needs."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    problem = "database-unavailable"
    is_temporary = True


class TrainingError(PlatformError):
    """A model cannot be trained or judged on these rows, or what is demanded of it makes no sense."""


class NoChampion(PlatformError):  # noqa: N818 - says what it is
    """No version of a model can answer; what would open it is told.

    Attributes
    ----------
    model
        The model.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    problem = "no-champion"
    is_temporary = True

    def __init__(self, model: str, told: str) -> None:
        super().__init__(told)
        self.model = model


def first_line(error: BaseException) -> str:
    """What an error of a library says first; what follows is for its developers."""
    return next(iter(str(error).splitlines()), "no reason given")
