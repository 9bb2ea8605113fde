"""Settings for the database into which assets load tables for other programs."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, SecretStr, model_validator

from platform_assets.settings.groups import SettingsGroup
from platform_assets.settings.variables import variable

SQL_TARGET_PARTS = ("sql_target_server", "sql_target_database", "sql_target_user", "sql_target_password")
"""Settings that together replace `sql_target_url`."""


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
            description="Server of the target database, if `PLATFORM_SQL_TARGET_URL` is empty: `host`, `host:port`, "
            "or `host\\instance` for SQL Server. Unlike in a URL, the password is written without escaping."
        ),
    ] = ""
    sql_target_database: Annotated[
        str, Field(description="Name of the target database, or the path of a SQLite file.")
    ] = ""
    sql_target_user: Annotated[
        str,
        Field(
            description="Database user that loads the tables. The user needs SELECT, INSERT and UPDATE on the tables."
        ),
    ] = ""
    sql_target_password: Annotated[SecretStr, Field(description="Password of the database user.")] = SecretStr("")
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
            description="`on`: sample data may be loaded into any target database. `off`: loading sample data fails, "
            "unless the target is the platform's PostgreSQL."
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
