"""Logging outside assets: one JSON object per line on stderr, without secrets.

Assets log through Dagster's logger. All text for logs, errors and metadata passes through `redact` or
`SecretsFilter`.
"""

from __future__ import annotations

import json
import logging
import re
import warnings
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

from platform_assets.settings import USERINFO

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MASK = "***"

_SENSITIVE_NAME = (
    r"(?:[\w.-]*(?:token|passw(?:or)?d|pwd|secret|api[_-]?key|access[_-]?key|signature|credential)[\w-]*"
    r"|(?:[\w.-]*[_.-])?sig)"
)
_PASSWORD_IN_URL = re.compile(r"""(://[^\s:/@"]*):[^\s/"]+@""")
_NAMED_VALUE = re.compile(
    rf"""(\b{_SENSITIVE_NAME}=|["']{_SENSITIVE_NAME}["']\s*:\s*)("[^"]*"|'[^']*'|[^\s&;,"']+)""", re.IGNORECASE
)
_QUERY = re.compile(r"(://[^\s?]*)\?\S*?(?=::[\w+]+://|\s|$)")
_SHORTEST_TELLING_PATH = 8
# Leave out Uvicorn's extra field `color_message`, because it repeats the message, with colours for terminals.
_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}

# Use one encoder for all lines, because `json.dumps` would make one for each line.
_as_json = json.JSONEncoder(default=str).encode


def redact(text: str, secrets: Sequence[str]) -> str:
    """Mask secrets in a text.

    Each of the given secrets is masked, even where it is URL-quoted. If a secret is a URL, its password is masked too.
    If it is an HTTP URL, its path is also masked, because errors of HTTP clients quote the path. Even without given
    secrets, the password in `scheme://user:password@host` and the values in `token=..`, `password=..` and similar are
    masked.

    Parameters
    ----------
    text
        Any text.
    secrets
        Values to mask.
    """
    for form in _forms_of(tuple(secrets)):
        text = text.replace(form, MASK)
    # Skip the slow regular expressions for most texts, because every request logs a line.
    if "://" in text:
        text = _PASSWORD_IN_URL.sub(rf"\1:{MASK}@", text)
    if "=" in text or ":" in text:
        text = _NAMED_VALUE.sub(rf"\1{MASK}", text)
    return text


def shown(uri: str) -> str:
    """Return a path or URI without user, password and query, which may contain credentials."""
    return _QUERY.sub(r"\1", USERINFO.sub("://", uri))


@lru_cache(maxsize=64)
def _forms_of(secrets: tuple[str, ...]) -> tuple[str, ...]:
    # Replace the longest first, because one secret may contain another.
    return tuple(sorted({form for secret in secrets for form in _forms(secret)}, key=len, reverse=True))


@lru_cache(maxsize=1024)
def _is_sensitive(name: str) -> bool:
    return re.fullmatch(_SENSITIVE_NAME, name, re.IGNORECASE) is not None


def _forms(secret: str) -> Iterator[str]:
    for part in (secret, *_parts_of_url(secret)):
        data = _as_bytes(part)
        yield from filter(None, (part, quote(data), quote(data, safe=""), quote_plus(data)))


def _as_bytes(text: str) -> bytes:
    """Encode a text from the environment. Its surrogates stand for bytes that are not valid UTF-8."""
    try:
        return text.encode(errors="surrogateescape")
    except UnicodeEncodeError:
        return text.encode(errors="surrogatepass")


def _parts_of_url(secret: str) -> Iterator[str]:
    try:
        url = urlsplit(secret)
    except ValueError:
        return
    if url.password:
        yield url.password
        yield unquote(url.password)
    if url.scheme in {"http", "https"} and len(url.path) > _SHORTEST_TELLING_PATH:
        yield url.path


class SecretsFilter(logging.Filter):
    """Masks secrets in a log record: in its message, arguments, exception, stack and extra fields.

    Add this filter to a handler, not to a logger, because a logger's filters do not apply to records of child loggers.

    Parameters
    ----------
    secrets
        Values to mask.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        super().__init__()
        self._secrets = tuple(secrets)

    def filter(self, record: logging.LogRecord) -> bool:
        """Mask the record in place, and return True."""
        record.msg = redact(_message(record), self._secrets)
        record.args = ()
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        # Remove the exception, because otherwise a formatter would format it again without masking its secrets.
        record.exc_info = None
        if record.exc_text:
            record.exc_text = redact(record.exc_text, self._secrets)
        if record.stack_info:
            record.stack_info = redact(record.stack_info, self._secrets)
        for name, value in _extra(record).items():
            setattr(record, name, self._masked_item(name, value))
        return True

    def _masked(self, value: object) -> object:
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, dict):
            return {key: self._masked_item(str(key), item) for key, item in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self._masked(item) for item in value]
        return redact(str(value), self._secrets)

    def _masked_item(self, key: str, value: object) -> object:
        return MASK if _is_sensitive(key) else self._masked(value)


class MaskedFormatter(logging.Formatter):
    """Masks secrets in the text that another formatter returns.

    Unlike `SecretsFilter`, it does not change the record, which Dagster also stores.

    Parameters
    ----------
    formatter
        The other formatter; None for the default.
    secrets
        Values to mask.
    """

    def __init__(self, formatter: logging.Formatter | None, secrets: Sequence[str]) -> None:
        super().__init__()
        self._formatter = formatter or logging.Formatter()
        self._secrets = tuple(secrets)

    def format(self, record: logging.LogRecord) -> str:
        """Return the masked text."""
        return redact(self._formatter.format(record), self._secrets)


class JsonLines(logging.Formatter):
    """Formats a record as one JSON object: time (UTC), level, logger, message, extra fields, exception, stack."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record as one line. A standard field wins over an extra field of the same name."""
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": _message(record),
        }
        if record.exc_info and not record.exc_text:
            record.exc_text = self.formatException(record.exc_info)
        if record.exc_text:
            entry["exception"] = record.exc_text
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return _as_json(entry | {n: v for n, v in _extra(record).items() if n not in entry})


def configure_logging(secrets: Sequence[str], level: int | str = logging.INFO, name: str | None = None) -> None:
    """Configure a logger to write JSON lines to stderr, with secrets masked.

    A second call replaces the secrets and the level. If the root logger already writes JSON lines, a call for another
    logger only replaces the secrets of the root handler. It adds no second handler, because that would write each line
    twice.

    Parameters
    ----------
    secrets
        Values to mask.
    level
        Lowest level that is logged.
    name
        Name of the logger; None for the root logger.
    """
    logger = logging.getLogger(name)
    handler = _json_handler(logging.getLogger()) or _json_handler(logger)
    if handler is None:
        handler = logging.StreamHandler()
        handler.setFormatter(JsonLines())
        logger.addHandler(handler)
    handler.filters[:] = [SecretsFilter(secrets)]
    if handler in logger.handlers:
        logger.setLevel(level)
        # The handler needs the level too, because some libraries set the levels of their own loggers.
        handler.setLevel(level)


def quiet_libraries() -> None:
    """Hide the libraries' log lines and warnings, because Dagster's history and the run summary show the results."""
    warnings.simplefilter("ignore")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    logging.getLogger("dagster").setLevel(logging.ERROR)
    # If the database becomes unreachable, each connection and lock logs a traceback. Hide these tracebacks, because the
    # run summary reports the failure.
    for name in ("sqlalchemy", "platform_assets.orchestration.run_locks"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _json_handler(logger: logging.Logger) -> logging.Handler | None:
    return next((handler for handler in logger.handlers if isinstance(handler.formatter, JsonLines)), None)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except (TypeError, ValueError, KeyError):
        # Handle wrong arguments here, because otherwise `logging` prints them to stderr without a filter.
        return f"{record.msg} {record.args}"


def _extra(record: logging.LogRecord) -> dict[str, Any]:
    return {name: value for name, value in vars(record).items() if name not in _STANDARD_FIELDS}
