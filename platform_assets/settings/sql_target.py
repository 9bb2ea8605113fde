"""Variables about the database into which assets load tables for other programs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from platform_assets.settings.groups import SettingsGroup
from platform_assets.settings.variables import variable

SQL_TARGET_PARTS = ("sql_target_server", "sql_target_database", "sql_target_user", "sql_target_password")
"""Settings that together name an SQL target, instead of its URL."""


class SqlTargetSettings(SettingsGroup):
    """The database into which assets load tables for other programs."""

    sql_target_url: Annotated[
        SecretStr,
        Field(
            description="Database into which assets load tables for other programs: a SQLAlchemy URL for SQL Server, "
            "PostgreSQL, MariaDB or SQLite. Default: the platform's PostgreSQL. See [Load into an SQL "
            "database](sql-loader.md)."
        ),
    ] = SecretStr("")
    sql_target_server: Annotated[
        str,
        Field(
            description="Server of that database, instead of a URL: `host`, `host:port`, or `host\\instance` of SQL "
            "Server. The password may then contain any characters."
        ),
    ] = ""
    sql_target_database: Annotated[str, Field(description="Name of that database, or the path of a SQLite file.")] = ""
    sql_target_user: Annotated[
        str, Field(description="User that loads the tables. It needs SELECT, INSERT and UPDATE on them.")
    ] = ""
    sql_target_password: Annotated[SecretStr, Field(description="Password of that user.")] = SecretStr("")
    sql_target_dialect: Annotated[
        str,
        Field(
            description="`mssql`, `postgresql`, `mariadb` or `sqlite`, optionally with the driver: `mssql+pyodbc` or "
            "`mssql+mssqlpython`. Default: `mssql`."
        ),
    ] = ""
    sql_target_demo: Annotated[
        Literal["off", "on"],
        Field(
            description="`on`: sample data may be loaded into the target database. `off`: they may be loaded only if "
            "it is the platform's PostgreSQL; otherwise the load fails."
        ),
    ] = "off"

    @model_validator(mode="after")
    def _target_is_complete(self) -> Self:
        parts = {name: bool(getattr(self, name)) for name in (*SQL_TARGET_PARTS, "sql_target_dialect")}
        parts["sql_target_password"] = bool(self.sql_target_password.get_secret_value())
        given = [variable(name) for name, is_given in parts.items() if is_given]
        if given and self.sql_target_url.get_secret_value():
            raise ValueError(f"PLATFORM_SQL_TARGET_URL already names the target; unset it, or unset {', '.join(given)}")
        needed = ("sql_target_database",) if self.sql_target_dialect.startswith("sqlite") else SQL_TARGET_PARTS[:2]
        lacking = [variable(name) for name in needed if not parts[name]]
        if given and lacking:
            raise ValueError(f"{' and '.join(lacking)} must be set as well, because {given[0]} is set")
        return self
