"""Each log line is a JSON object, and secrets are masked in all of its fields."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from platform_assets.base.logs import JsonLines, SecretsFilter, configure_logging, redact, shown

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SECRET = "pa/ss wörd+1"
pytestmark = pytest.mark.requirement("PLT-8")


class Log:
    """A logger with its own handler, and the lines that it has written."""

    def __init__(self, secrets: list[str]) -> None:
        self._stream = io.StringIO()
        handler = logging.StreamHandler(self._stream)
        handler.setFormatter(JsonLines())
        handler.addFilter(SecretsFilter(secrets))
        self.logger = logging.getLogger("platform_assets.example")
        self.logger.handlers[:] = [handler]
        self.logger.propagate = False

    @property
    def text(self) -> str:
        return self._stream.getvalue()

    @property
    def entry(self) -> dict[str, Any]:
        (line,) = self.text.splitlines()
        entry = json.loads(line)
        assert isinstance(entry, dict)
        return entry


@pytest.fixture
def log() -> Log:
    return Log([SECRET])


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    # Remove the handler of the platform, because another test in this process may have configured the logger.
    root.handlers[:] = [handler for handler in handlers if not isinstance(handler.formatter, JsonLines)]
    yield root
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.parametrize(
    ("text", "secrets", "expected"),
    [
        ("nothing to hide", [], "nothing to hide"),
        ("nothing to hide", [""], "nothing to hide"),
        ("key abc123 used", ["abc123"], "key *** used"),
        ("abc123abc", ["abc", "abc123"], "******"),
        (f"GET /?q={quote(SECRET)}", [SECRET], "GET /?q=***"),
        (f"GET /?q={quote(SECRET, safe='')}", [SECRET], "GET /?q=***"),
        (f"GET /?q={quote_plus(SECRET)}", [SECRET], "GET /?q=***"),
        ("postgresql://me:pw@db:5432/x refused", [], "postgresql://me:***@db:5432/x refused"),
        ("postgresql+psycopg://me:p:w@x@db/x", [], "postgresql+psycopg://me:***@db/x"),
        ("redis://:pw@cache/0", [], "redis://:***@cache/0"),
        ("http://127.0.0.1:8000/a@b", [], "http://127.0.0.1:8000/a@b"),
        ("https://host/path, then me@example.org", [], "https://host/path, then me@example.org"),
        ("GET /x?token=abc&page=2", [], "GET /x?token=***&page=2"),
        ("api_key=abc; ok", [], "api_key=***; ok"),
        ("host=db password=pw user=me", [], "host=db password=*** user=me"),
        ("password='p w' user=me", [], "password=*** user=me"),
        ("X-Amz-Signature=abc", [], "X-Amz-Signature=***"),
        ("X-Amz-Credential=AKIA/eu", [], "X-Amz-Credential=***"),
        ("?sv=2022&sig=abc%3D&se=1", [], "?sv=2022&sig=***&se=1"),
        ("design=blue", [], "design=blue"),
        ("""{"password": "pw", "user": "me"}""", [], """{"password": ***, "user": "me"}"""),
        ("""{'auth_token': 'pw', 'n': 1}""", [], """{'auth_token': ***, 'n': 1}"""),
        ("password: see the manual", [], "password: see the manual"),
        ("login as me with pw1", ["postgresql://me:pw1@db/x"], "login as me with ***"),
        ("login with p@w", ["postgresql://me:p%40w@db/x"], "login with ***"),
        ("login with p%40w", ["postgresql://me:p%40w@db/x"], "login with ***"),
        (
            "Max retries exceeded with url: /services/T0/B0",
            ["https://hooks.example.org/services/T0/B0"],
            "Max retries exceeded with url: ***",
        ),
        ("see /a", ["https://hooks.example.org/a"], "see /a"),
        ("http://[broken", ["http://[broken"], "***"),
        ("p\udcffw, ?q=p%FFw", ["p\udcffw"], "***, ?q=***"),
        ("a\ud800b, ?q=a%ED%A0%80b", ["a\ud800b"], "***, ?q=***"),
        ("login with p%FFw", ["postgresql://me:p\udcffw@db/x"], "login with ***"),
    ],
)
def test_redact_masks_known_secrets_and_credentials_in_any_text(text: str, secrets: list[str], expected: str) -> None:
    assert redact(text, secrets) == expected


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/a?b@c.csv", "/data/a?b@c.csv"),
        ("memory://", "memory://"),
        ("s3://bucket/lake/a@b", "s3://bucket/lake/a@b"),
        ("s3://key:se/cret@bucket/lake", "s3://bucket/lake"),
        ("ftp://me:p:w@x@host/a", "ftp://host/a"),
        ("https://token@host:80/a#b", "https://host:80/a#b"),
        ("https://host:8000/a@b?sv=2022&sig=abc%3D", "https://host:8000/a@b"),
        ("http://me:pw@[::1]:80/x?sig=abc", "http://[::1]:80/x"),
        ("zip://a.csv::https://me:pw@host/x.zip?sig=abc", "zip://a.csv::https://host/x.zip"),
        ("simplecache::https://host/x?sig=abc::https://me:pw@b/y", "simplecache::https://host/x::https://b/y"),
        ("abfss://container@account.dfs.core.windows.net/lake", "abfss://container@account.dfs.core.windows.net/lake"),
        ("postgresql://me:pw@db/x?sslpassword=pw", "postgresql://db/x"),
    ],
)
def test_a_uri_is_shown_without_its_credentials(uri: str, expected: str) -> None:
    assert shown(uri) == expected


@given(
    secret=st.text(st.characters(codec="utf-8", exclude_characters="*"), min_size=1), before=st.text(), after=st.text()
)
def test_redaction_removes_a_secret_in_plain_and_url_quoted_form(secret: str, before: str, after: str) -> None:
    for form in (secret, quote(secret, safe=""), quote_plus(secret)):
        assert form not in redact(f"{before}{form}{after}", [secret])


def test_redacting_a_very_long_word_takes_linear_time() -> None:
    assert redact("a" * 1_000_000, ["b"]) == "a" * 1_000_000


def test_a_record_is_one_line_of_json(log: Log) -> None:
    log.logger.warning("%d rows\nquarantined", 3, extra={"table": "credit_risk/loans", "rows": 3})
    entry = log.entry
    assert entry.pop("time").endswith("+00:00")
    assert entry == {
        "level": "WARNING",
        "logger": "platform_assets.example",
        "message": "3 rows\nquarantined",
        "table": "credit_risk/loans",
        "rows": 3,
    }


def test_extra_fields_do_not_replace_standard_fields(log: Log) -> None:
    log.logger.warning("real", extra={"level": "forged", "time": "forged", "logger": "forged"})
    assert log.entry["level"] == "WARNING"
    assert "forged" not in log.text


def test_values_that_json_cannot_represent_are_logged_as_text() -> None:
    record = logging.makeLogRecord({"msg": "x", "where": ValueError("here")})
    assert json.loads(JsonLines().format(record))["where"] == "here"


@pytest.mark.parametrize(
    ("message", "args"),
    [
        (f"with {SECRET}", ()),
        ("with %s", (SECRET,)),
        ("with %s", (ValueError(SECRET),)),
        ("with %(it)s", ({"it": SECRET},)),
        ("with %s", ({"it": SECRET},)),
        ("too few places", (SECRET,)),
        ("not a number %d", (SECRET,)),
        ("missing key %(that)s", ({"it": SECRET},)),
    ],
)
def test_secrets_in_message_and_arguments_are_masked(
    log: Log, capfd: pytest.CaptureFixture[str], message: str, args: tuple[object, ...]
) -> None:
    log.logger.error(message, *args)
    assert "***" in log.entry["message"]
    assert SECRET not in log.text + capfd.readouterr().err


def test_secrets_in_an_exception_and_its_cause_are_masked(log: Log) -> None:
    try:
        try:
            raise ValueError(SECRET)
        except ValueError as cause:
            raise RuntimeError(f"could not sign in with {SECRET}") from cause
    except RuntimeError:
        log.logger.exception("failed")
    assert SECRET not in log.entry["exception"]
    assert log.entry["exception"].count("***") == 2
    assert "RuntimeError: could not sign in with ***" in log.entry["exception"]


def test_the_filter_replaces_the_exception_with_masked_text() -> None:
    record = logging.makeLogRecord({"msg": "failed", "exc_info": (ValueError, ValueError(SECRET), None)})
    assert SecretsFilter([SECRET]).filter(record)
    assert record.exc_info is None
    assert record.exc_text == "ValueError: ***"


def test_a_second_handler_without_the_json_formatter_logs_no_secret(log: Log) -> None:
    stream = io.StringIO()
    log.logger.addHandler(logging.StreamHandler(stream))
    try:
        raise ValueError(SECRET)
    except ValueError:
        log.logger.exception("failed with %s", SECRET)
    assert stream.getvalue().count("***") == 2
    assert SECRET not in stream.getvalue()


@pytest.mark.parametrize(
    ("extra", "expected"),
    [
        ({"url": f"x {SECRET}"}, {"url": "x ***"}),
        ({"urls": [SECRET, ("a", SECRET)]}, {"urls": ["***", ["a", "***"]]}),
        ({"request": {"query": SECRET, "tries": 2}}, {"request": {"query": "***", "tries": 2}}),
        ({"request": {"api_key": "unknown to us"}}, {"request": {"api_key": "***"}}),
        ({"password": "unknown to us"}, {"password": "***"}),
        ({"error": ValueError(SECRET)}, {"error": "***"}),
        ({"ok": True, "share": 0.5, "none": None}, {"ok": True, "share": 0.5, "none": None}),
    ],
)
def test_secrets_in_extra_fields_are_masked(log: Log, extra: dict[str, object], expected: dict[str, object]) -> None:
    log.logger.warning("x", extra=extra)
    assert {name: log.entry[name] for name in extra} == expected


def test_secrets_in_a_stack_trace_are_masked() -> None:
    log = Log(["stack_info=True"])
    log.logger.warning("x", stack_info=True)
    assert "log.logger.warning" in log.entry["stack"]
    assert "stack_info=True" not in log.text


def test_configuring_logs_again_replaces_the_secrets_and_adds_no_handler(root: logging.Logger) -> None:
    before = len(root.handlers)
    configure_logging(["first"])
    configure_logging(["second"], level="DEBUG")
    assert len(root.handlers) == before + 1
    record = logging.makeLogRecord({"msg": "first second"})
    assert root.handlers[-1].filter(record)
    assert record.msg == "first ***"
    assert root.level == logging.DEBUG


def test_records_of_every_logger_are_written_to_stderr_with_secrets_masked() -> None:
    code = (
        "import logging; from platform_assets.base.logs import configure_logging;"
        "configure_logging(['abc123']); logging.getLogger('anyone').info('with %s', 'abc123');"
        "logging.getLogger('anyone').debug('too quiet')"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == ""
    assert json.loads(done.stderr)["message"] == "with ***"


def said_by(code: str, **variables: str) -> list[dict[str, str]]:
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ | variables)
    return [json.loads(line) for line in done.stderr.splitlines()]


@pytest.mark.parametrize(
    "start",
    [
        "from platform_assets import cli; cli.app(['demo', 'generate', FOLDER, '--rows', '1'], standalone_mode=False)",
        "from platform_assets.definitions import defs; defs()",
        (
            "from platform_assets.definitions import defs; from platform_assets import cli;"
            "cli.app(['demo', 'generate', FOLDER, '--rows', '1'], standalone_mode=False); defs()"
        ),
    ],
    ids=["command line", "code location", "both"],
)
def test_each_program_logs_a_record_as_exactly_one_json_line_without_secrets(start: str, tmp_path: Path) -> None:
    url = "https://hooks.example.org/telling/path"
    code = f"import logging; FOLDER = {str(tmp_path)!r}; {start};"
    logger = "logging.getLogger('platform_assets.monitoring.alerts')"
    log = f"{logger}.error('posting to {url}', extra={{'event': 'run_failed'}})"
    [line] = said_by(code + log, PLATFORM_ALERT_WEBHOOK_URL=url, PLATFORM_HOME=str(tmp_path))
    assert (line["level"], line["event"]) == ("ERROR", "run_failed")
    assert "telling" not in line["message"]
