"""Settings for the kind of deployment, and for the places where the platform keeps its data."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr, field_validator

from platform_assets.settings.groups import SettingsGroup


class DeploymentSettings(SettingsGroup):
    """The kind of deployment, and the places where the platform keeps its data."""

    env: Annotated[
        Literal["development", "production"],
        Field(
            description="`development` or `production`. Production requires `PLATFORM_DATABASE_URL` and "
            "`PLATFORM_SOURCES=live`."
        ),
    ] = "development"
    home: Annotated[Path, Field(description="Folder for the files that the platform keeps on this machine.")] = Path(
        ".platform"
    )
    sources: Annotated[
        Literal["demo", "live"],
        Field(
            description="`demo`: generate sample data for each source that is not set. `live`: fail if a source is not "
            "set; the error names the variable."
        ),
    ] = "demo"
    lake_uri: Annotated[
        str,
        Field(
            description="Location of the tables: a folder, `s3://..`, `abfss://..`, `gs://..` or `memory://`. Default: "
            "the folder `lake` in `PLATFORM_HOME`."
        ),
    ] = ""
    database_url: Annotated[
        SecretStr,
        Field(
            description="PostgreSQL database, `postgresql://user:password@host/name`. Run `platform-assets migrate` "
            "before the first use. Default: an embedded server."
        ),
    ] = SecretStr("")
    migration_database_url: Annotated[
        SecretStr,
        Field(
            description="URL of the same database with the role that owns its tables. Needed for `platform-assets "
            "migrate`, and for the first key with the scope `approve`. Default: `PLATFORM_DATABASE_URL`."
        ),
    ] = SecretStr("")
    mlflow_tracking_uri: Annotated[
        SecretStr, Field(description="MLflow tracking server. Default: the platform's PostgreSQL.")
    ] = SecretStr("")
    automation: Annotated[
        Literal["off", "on"],
        Field(
            description="`on`: schedules and sensors are running unless you stop them, and `platform-assets serve` "
            "raises an incident if Dagster's daemon is not alive. `off`: they are stopped unless you start them. `make "
            "up` sets `on`."
        ),
    ] = "off"

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        try:
            folder = home.expanduser().absolute()
        except (RuntimeError, OSError) as error:
            # This happens for an unknown user after ~, or a relative path in a removed folder.
            raise ValueError(
                f"is {str(home)!r}, which cannot be resolved ({error}); set it to an absolute path"
            ) from None
        if not str(folder).isascii() and sys.getfilesystemencoding() != "utf-8":
            # Libraries that write tables encode paths in UTF-8, and would use another folder.
            raise ValueError(
                f"contains characters other than ASCII, and Python encodes paths in {sys.getfilesystemencoding()}; set "
                "PYTHONUTF8=1, or use a locale with UTF-8"
            )
        # DuckDB treats a backslash as an escape, and PostgreSQL's tools refuse control characters.
        if refused := sorted(set(re.findall(r"[\\\x00-\x1f\x7f\ud800-\udfff]", str(folder)))):
            named = " ".join(repr(one)[1:-1] for one in refused)
            raise ValueError(f"must be a folder without {named} in its path, not {str(folder)!r}")
        return folder

    @property
    def scratch(self) -> Path:
        """Return the folder for temporary files of processes."""
        return self.home / "scratch"

    @property
    def lake(self) -> str:
        """Return the lake's location; `lake` below the home by default."""
        return self.lake_uri or str(self.home / "lake")

    @property
    def lake_is_memory(self) -> bool:
        """Return whether tables are kept in memory only, until the process ends."""
        return self.lake.startswith("memory:")
