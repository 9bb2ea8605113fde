"""Errors that a user can fix, each with its HTTP status and exit code.

The message states the problem, the requirement and the fix. The command line, Dagster and the HTTP service show the
message without a traceback. Any other exception is a defect of the platform.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import ClassVar


class PlatformError(Exception):
    """Base class of errors that a user can fix.

    Attributes
    ----------
    status
        HTTP status of the response.
    problem
        Problem type in HTTP responses, without its prefix; empty if the status is specific enough.
    is_temporary
        Whether a retry may succeed.
    exit_code
        Exit code of the command.
    """

    status: ClassVar[int] = HTTPStatus.INTERNAL_SERVER_ERROR
    problem: ClassVar[str] = ""
    is_temporary: ClassVar[bool] = False
    exit_code: ClassVar[int] = 1


class SourceError(PlatformError):
    """A source is missing, unreachable, or of the wrong kind."""


class TableError(PlatformError):
    """A table or table version is missing, or cannot be written."""


class SchemaError(PlatformError):
    """A frame or expression lacks declared columns or has undeclared columns."""


class ArtefactError(PlatformError):
    """A model artifact is missing, altered or of the wrong kind, or cannot be stored."""


class RegistryError(PlatformError):
    """A model, version or alias is not registered, or the registry is unreachable."""


class NotFound(PlatformError):  # noqa: N818 - the name is the message
    """There is no record with the requested key."""

    status = HTTPStatus.NOT_FOUND
    problem = "not-found"


class DatabaseError(PlatformError):
    """PostgreSQL is missing or unreachable, or its tables are not at the revision that this code needs."""

    status = HTTPStatus.SERVICE_UNAVAILABLE
    problem = "database-unavailable"
    is_temporary = True


class OtherLake(DatabaseError):  # noqa: N818 - the name is the message
    """The database belongs to another lake, or the lake belongs to another database."""

    is_temporary = False


class TrainingError(PlatformError):
    """A model cannot be trained or evaluated on these rows, or its declaration is invalid."""


class NoChampion(PlatformError):  # noqa: N818 - the name is the message
    """A model has no champion, so it cannot predict. The message says how to promote one.

    Attributes
    ----------
    model
        Name of the model.
    """

    status = HTTPStatus.SERVICE_UNAVAILABLE
    problem = "no-champion"
    is_temporary = True

    def __init__(self, model: str, told: str) -> None:
        super().__init__(told)
        self.model = model


def first_line(error: BaseException) -> str:
    """Return the first line of a library's error message."""
    return next(iter(str(error).splitlines()), "no reason given")
