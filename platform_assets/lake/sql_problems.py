"""Problems with SQL targets: the cause and the fix of each driver error, without the password."""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import first_line
from platform_assets.base.logs import redact
from platform_assets.lake.sql_target import SqlTarget, SqlTargetError

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class Problem:
    """One kind of problem.

    Attributes
    ----------
    cause
        What happened. `{place}`, `{user}`, `{database}` and `{settings}` are filled in.
    fix
        What to do.
    codes
        The drivers' codes for this problem. Native error numbers have the prefix `mssql:` or `mysql:`, SQLite's error
        names have the prefix `sqlite:`, and SQLSTATEs have no prefix.
    pattern
        Pattern of messages, for drivers that pass no codes.
    is_passing
        Whether the same load may succeed if it is repeated immediately.
    """

    cause: str
    fix: str
    codes: frozenset[str] = frozenset()
    pattern: str = "(?!)"
    is_passing: bool = False


def _codes(**by_dialect: str) -> frozenset[str]:
    return frozenset(
        code if dialect == "state" else f"{dialect}:{code}"
        for dialect, codes in by_dialect.items()
        for code in codes.split()
    )


PROBLEMS = {
    "database": Problem(
        "{place} has no such database, or the user {user} may not open it",
        "Check the database in {settings}, and grant the user access to it",
        _codes(mssql="4060 911 916", mysql="1049 1044", state="3D000", sqlite="SQLITE_CANTOPEN"),
        r"Cannot open database|database \".*\" does not exist",
    ),
    "login": Problem(
        "{place} refused the login of the user {user}",
        "Check the user and the password in {settings}, and that the user may log in from this machine",
        _codes(mssql="18456 18452 18470 18486 18487 18488", mysql="1045 1698", state="28P01 28000"),
        r"Login failed for user|password authentication failed|no pg_hba\.conf entry|role \".*\" does not exist",
    ),
    "no database": Problem(
        "{place} is not a SQLite database",
        "Correct {settings}",
        _codes(sqlite="SQLITE_NOTADB SQLITE_CORRUPT"),
    ),
    "certificate": Problem(
        "the certificate of {place} cannot be verified",
        "Install the certificate of the server's CA on this machine, or, in a network that you trust, add "
        "TrustServerCertificate=yes to the query of PLATFORM_SQL_TARGET_URL",
        pattern=r"certificate verify failed|certificate chain|SSL Provider|SSL error: certificate",
    ),
    "driver": Problem(
        "the ODBC driver for {place} cannot be loaded",
        "Install the driver, or correct driver= in {settings}; `odbcinst -q -d` lists the installed ones",
        _codes(state="IM002 IM003 IM004"),
        r"Can't open lib|Data source name not found|not a loadable driver|No module named",
    ),
    "time-out": Problem(
        "{place} did not answer in time",
        "Check that the server is running and not overloaded, and that no firewall drops its packets",
        _codes(state="HYT00 HYT01 57014", mysql="1969 3024"),
        r"[Tt]imeout expired|Timeout error|timed out|connection timeout",
    ),
    "lock": Problem(
        "another process holds a lock on the table in {place}",
        "Wait until that process ends, or stop it, and load again",
        _codes(mssql="1222", mysql="1205", state="55P03", sqlite="SQLITE_BUSY SQLITE_LOCKED"),
        r"Lock request time out",
        is_passing=True,
    ),
    "deadlock": Problem(
        "{place} cancelled the load because of a deadlock with another process",
        "Load again; if this happens often, load at another time",
        _codes(mssql="1205", mysql="1213 1020", state="40P01 40001"),
        r"deadlock",
        is_passing=True,
    ),
    "unreachable": Problem(
        "{place} cannot be reached, or it closed the connection",
        "Check the address in {settings} and the network, and that the server is running",
        _codes(state="08001 08003 08004 08006 08S01 57P01 57P02 57P03", mysql="2002 2003 2006 2013 2055 1927"),
        r"establish connection|Communication link failure|[Cc]onnection refused|closed the connection unexpectedly"
        r"|could not translate host name|connection is lost|connection is closed",
    ),
    "protocol": Problem(
        "a server of another kind answers at the address of {place}",
        "Correct the host and the port in {settings}",
        pattern=r"Protocol error in TDS stream|invalid response to SSL negotiation|wrong version number"
        r"|Packet sequence number wrong",
    ),
    "table": Problem(
        "{place} has no such table",
        "Create the table, or correct its name and the database in {settings}",
        _codes(mssql="208", mysql="1146", state="42P01 42S02"),
        r"Invalid object name|no such table",
    ),
    "log full": Problem(
        "the transaction log of {place} is full",
        "Ask an administrator to back up or enlarge the log (SQL Server: log_reuse_wait_desc in sys.databases gives "
        "the reason why it is not truncated), and load again",
        _codes(mssql="9002"),
        r"transaction log for database .* is full",
    ),
    "disk full": Problem(
        "{place} has no space left",
        "Free or add space, and load again",
        _codes(mssql="1105 1101", mysql="1021 1114 3675", state="53100 53000", sqlite="SQLITE_FULL"),
        r"[Nn]o space left|disk is full|Could not allocate space",
    ),
    "read-only": Problem(
        "{place} is read-only",
        "Load into the primary server, or make the database writable",
        _codes(mssql="3906 3908", mysql="1290 1792 1836", state="25006", sqlite="SQLITE_READONLY"),
        r"read-only",
    ),
    "permission": Problem(
        "the user {user} lacks a permission in {place}",
        "Grant SELECT, INSERT and UPDATE on the table (PostgreSQL: also TEMPORARY on the database; MariaDB: also "
        "CREATE TEMPORARY TABLES)",
        _codes(mssql="229 230 262 297 300", mysql="1142 1143 1227 1370", state="42501", sqlite="SQLITE_PERM"),
        r"permission was denied|permission denied",
    ),
    "value": Problem(
        "{place} refused a value",
        "Correct the value in the source, or the type of the column",
        _codes(
            mssql="220 241 242 245 515 2628 8114 8115 8152",
            mysql="1048 1264 1265 1292 1366 1406 1364",
            state="22001 22003 22007 22008 22021 22P02 22P05 23502",
        ),
        r"would be truncated|out of range|Cannot insert the value NULL|NOT NULL constraint failed",
    ),
    "constraint": Problem(
        "the rows violate a constraint of the table in {place}",
        "Correct the rows, or first load the rows that they refer to",
        _codes(
            mssql="547 2601 2627",
            mysql="1062 1452 1216 4025 3819",
            state="23503 23505 23514 23P01",
            sqlite="SQLITE_CONSTRAINT_FOREIGNKEY SQLITE_CONSTRAINT_CHECK SQLITE_CONSTRAINT_UNIQUE "
            "SQLITE_CONSTRAINT_PRIMARYKEY SQLITE_CONSTRAINT_TRIGGER",
        ),
        r"constraint",
        # Another process may have inserted the same key at the same moment. The next attempt then updates that row.
        is_passing=True,
    ),
}
UNKNOWN = Problem("{place} reported an error", "Run `platform-assets doctor`, and see the server's log")
# ODBC drivers also report these SQLSTATEs for a bad certificate and for a driver that is not installed.
_VAGUE = {"08001", "08S01", "HYT00"}
_NATIVE = re.compile(r"\((\d+)\)")
_PREFIXES = re.compile(r"^(?:\[[^\]]*\]\s*)+")


def explain(error: BaseException, target: SqlTarget) -> SqlTargetError:
    """Return the error to raise instead of a driver's error.

    Parameters
    ----------
    error
        Error of the driver, not SQLAlchemy's wrapper.
    target
        The target. The message names its place, and must not contain its password.
    """
    problem = problem_of(error, target.dialect)
    said = redact(_said(error), [str(target.url.password)] if target.url.password else [])
    cause = problem.cause.format(**_facts(target))
    fix = problem.fix.format(**_facts(target))
    return SqlTargetError(f"{cause} ({said}). {fix}.", is_passing=problem.is_passing)


def unreachable(error: OSError, target: SqlTarget, address: tuple[str, int], seconds: float) -> SqlTargetError:
    """Return the error for a server whose port cannot be connected to."""
    host, port = address
    if isinstance(error, socket.gaierror):
        told = (
            f"the host {host!r} cannot be found. Check the server's name in {target.named_by}, and this machine's DNS."
        )
    elif isinstance(error, TimeoutError):
        told = (
            f"{host} did not answer on port {port} within {seconds:g} s. Check the address in {target.named_by}, that "
            "the server is running, and that no firewall drops its packets."
        )
    elif isinstance(error, ConnectionRefusedError):
        told = (
            f"nothing listens on port {port} of {host}. Start the server, or correct the port in {target.named_by}; "
            "SQL Server also needs TCP/IP enabled."
        )
    else:
        told = (
            f"{host} cannot be reached on port {port} ({first_line(error)}). Check {target.named_by} and the network."
        )
    return SqlTargetError(f"cannot connect to {target.place}: {told}")


def problem_of(error: BaseException, dialect: str) -> Problem:
    """Classify a driver's error by its codes, or else by its message, because some drivers pass no codes."""
    codes = frozenset(_codes_of(error, dialect))
    by_text = (problem for problem in PROBLEMS.values() if re.search(problem.pattern, str(error)))
    return _with_code(codes - _VAGUE) or next(by_text, None) or _with_code(codes) or UNKNOWN


def _with_code(codes: frozenset[str]) -> Problem | None:
    return next((problem for problem in PROBLEMS.values() if problem.codes & codes), None)


def _codes_of(error: BaseException, dialect: str) -> Iterator[str]:
    first = error.args[0] if error.args else None
    if name := getattr(error, "sqlite_errorname", None):
        yield f"sqlite:{name}"
        # SQLITE_BUSY_RECOVERY is a SQLITE_BUSY.
        yield f"sqlite:{'_'.join(name.split('_')[:2])}"
    if state := getattr(error, "sqlstate", None):
        yield str(state)
    if isinstance(first, int):
        yield f"{dialect}:{first}"
    if isinstance(first, str) and len(error.args) > 1:
        # pyodbc gives the SQLSTATE, and a message with the server's error numbers, which are more specific.
        yield from (f"{dialect}:{number}" for number in _NATIVE.findall(str(error.args[1])) if number != "0")
        yield first


def _said(error: BaseException) -> str:
    """Return the server's message without the drivers' prefixes."""
    text = getattr(error, "ddbc_error", None) or (str(error.args[-1]) if error.args else str(error))
    return _PREFIXES.sub("", first_line(Exception(text))).rstrip(". ") or type(error).__name__


def _facts(target: SqlTarget) -> dict[str, str]:
    return {
        "place": target.place,
        "user": repr(target.url.username) if target.url.username else "of this process",
        "database": str(target.url.database),
        "settings": target.named_by,
    }
