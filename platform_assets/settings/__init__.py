"""The platform's environment variables, validated once, and a base class for the variables of domains.

Each module declares the variables of one subject; `Settings` combines them. No other package reads PLATFORM_ variables.
A domain declares its variables in its own `settings.py`. `services.py` turns the values into stores, engines and
databases.
"""

from __future__ import annotations

import sys
from typing import Self

from pydantic import SecretStr, model_validator

from platform_assets.settings.data import DataSettings
from platform_assets.settings.deployment import DeploymentSettings
from platform_assets.settings.execution import ExecutionSettings
from platform_assets.settings.groups import (
    DomainSettings,
    Group,
    SettingsError,
    SettingsGroup,
    read_settings,
    unknown_variables,
)
from platform_assets.settings.identity import IdentitySettings
from platform_assets.settings.monitoring import MonitoringSettings
from platform_assets.settings.service import NO_LIMIT, ServiceSettings
from platform_assets.settings.sql_target import SQL_TARGET_PARTS, SqlTargetSettings
from platform_assets.settings.variables import (
    PREFIX,
    USERINFO,
    secrets_in_environment,
    secrets_in_uri,
    variable,
)

__all__ = [
    "NO_LIMIT",
    "PREFIX",
    "SQL_TARGET_PARTS",
    "USERINFO",
    "DomainSettings",
    "Group",
    "Settings",
    "SettingsError",
    "SettingsGroup",
    "load_settings",
    "read_settings",
    "require_docstrings",
    "unknown_variables",
    "variable",
]

_STRIPS_DOCSTRINGS = 2
"""Python's optimisation level that removes docstrings (`-OO`)."""


# Pydantic collects fields from the last base to the first, so list the bases in reverse order of the settings page.
class Settings(
    IdentitySettings,
    MonitoringSettings,
    SqlTargetSettings,
    ServiceSettings,
    ExecutionSettings,
    DataSettings,
    DeploymentSettings,
):
    """The platform's own variables, and the rules for combinations of variables."""

    @model_validator(mode="after")
    def _production_is_not_a_demo(self) -> Self:
        if self.env == "production" and not (self.database_url.get_secret_value() or self.bundle):
            msg = "production needs PLATFORM_DATABASE_URL; the embedded database is for development"
            raise ValueError(msg)
        if self.env == "production" and self.sources == "demo":
            msg = "production needs PLATFORM_SOURCES=live, so that demo data are not mistaken for real data"
            raise ValueError(msg)
        if self.env == "production" and self.lake_is_memory:
            msg = "production needs a persistent PLATFORM_LAKE_URI: a folder or an object store, not memory://"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _settings_belong_together(self) -> Self:
        if self.migration_database_url.get_secret_value() and not self.database_url.get_secret_value():
            msg = "PLATFORM_MIGRATION_DATABASE_URL needs PLATFORM_DATABASE_URL; the embedded database has its own roles"
            raise ValueError(msg)
        if self.bundle and self.database_url.get_secret_value():
            msg = "PLATFORM_BUNDLE serves one model without a database; unset it, or unset PLATFORM_DATABASE_URL"
            raise ValueError(msg)
        if self.api_keys.get_secret_value() and self.database_url.get_secret_value():
            msg = "PLATFORM_API_KEYS is for a service without a database; unset it, and use `platform-assets keys add`"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _machines_share_their_stores(self) -> Self:
        chosen = {"PLATFORM_EXECUTOR": self.executor, "PLATFORM_RUN_LAUNCHER": self.run_launcher}
        given = {
            "PLATFORM_CELERY_BROKER_URL": bool(self.celery_broker_url.get_secret_value()),
            "PLATFORM_KUBERNETES_CONFIG": bool(self.kubernetes_config),
            "PLATFORM_DATABASE_URL": bool(self.database_url.get_secret_value()),
        }
        needed = {"celery": "PLATFORM_CELERY_BROKER_URL", "k8s": "PLATFORM_KUBERNETES_CONFIG"}
        for name, value in chosen.items():
            wanted = [needed[value], "PLATFORM_DATABASE_URL"] if value in needed else []
            if lacking := [one for one in wanted if not given[one]]:
                raise ValueError(f"{name}={value} needs {' and '.join(lacking)}")
        if self.executor == "k8s" and self.run_launcher != "k8s":
            raise ValueError(
                "PLATFORM_EXECUTOR=k8s needs PLATFORM_RUN_LAUNCHER=k8s, because the executor uses the run launcher's "
                "configuration"
            )
        if self.lake_is_memory and self.executor != "in_process":
            raise ValueError(f"PLATFORM_EXECUTOR={self.executor} needs a lake that all processes share, not memory://")
        return self

    @model_validator(mode="after")
    def _people_sign_in_on_a_service_with_a_database(self) -> Self:
        if self.oidc_issuer and self.env == "production" and not self.service_url:
            raise ValueError("PLATFORM_SERVICE_URL must be set as well, because PLATFORM_OIDC_ISSUER is set")
        has_database = not self.bundle and not self.api_keys.get_secret_value()
        if not has_database and (self.oidc_issuer or self.proxy_user_header):
            raise ValueError(
                "sign-in without keys needs a service with a database; unset PLATFORM_OIDC_ISSUER and "
                "PLATFORM_PROXY_USER_HEADER, or PLATFORM_BUNDLE and PLATFORM_API_KEYS"
            )
        return self

    @property
    def identity_required(self) -> bool:
        """Return whether only authenticated people may decide about models."""
        return self.approvals_require_identity == "on" or (
            self.approvals_require_identity is None and self.env == "production"
        )

    def secrets(self) -> list[str]:
        """Return the values to mask in logs, errors and metadata.

        Includes the secrets in all PLATFORM_ variables of the environment, so that the result does not depend on the
        domains that this process has imported.
        """
        found: list[str] = []
        for name in type(self).model_fields:
            value = getattr(self, name)
            text = value.get_secret_value() if isinstance(value, SecretStr) else value
            if name.endswith(("_uri", "_broker_url")):
                found += secrets_in_uri(text)
            elif isinstance(value, SecretStr) and text:
                found.append(text)
        webhooks = (one for route in self.alert_destinations.values() for one in route if "://" in one)
        return list(dict.fromkeys([*found, *webhooks, *secrets_in_environment(type(self).model_fields)]))


def load_settings() -> Settings:
    """Read the platform's own variables from the environment.

    Raises
    ------
    SettingsError
        A variable has an invalid value, or Python runs without docstrings.
    """
    require_docstrings()
    return read_settings(Settings)


def require_docstrings() -> None:
    """Refuse to run under `python -OO`.

    Raises
    ------
    SettingsError
        Python has removed the docstrings, which describe assets, HTTP routes and commands.
    """
    if sys.flags.optimize >= _STRIPS_DOCSTRINGS:
        raise SettingsError(
            "Python runs with -OO, which removes the descriptions of assets, routes and commands; "
            "unset PYTHONOPTIMIZE, or use -O"
        )
