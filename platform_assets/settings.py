"""The platform's environment variables, validated once, and a base class for the variables of domains.

No other module reads PLATFORM_ variables. A domain declares its variables in its own `settings.py`. `services.py`
turns the values into stores, engines and databases.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, TypeVar
from urllib.parse import unquote

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

if TYPE_CHECKING:
    from collections.abc import Iterable

PREFIX = "PLATFORM_"
# A password may contain a slash. Digits after a host's colon are a port. Azure's schemes have a container before the @.
USERINFO = re.compile(
    r"(?<!abfs)(?<!abfss)(?<!wasb)(?<!wasbs)://(?P<userinfo>[^\s/?]*|[^\s/:@]*:(?!:|\d+(?:[/?]|$))\S*?)@"
)
"""Pattern of the user and password of a URI."""
SHORTEST_SECRET = 12
"""Minimum length of a part of a URI that is masked regardless of its name."""
SHORTEST_NAMED_SECRET = 6
"""Minimum length of a value that is masked if its variable matches `SECRET_NAME`; `on` or `100` is not a secret."""
SECRET_NAME = re.compile(r"token|passw(or)?d|pwd|secret|credential|signature|webhook|(^|_)keys?(_|$)", re.IGNORECASE)
"""Pattern of the names of variables with secrets."""
NO_LIMIT = "off"
"""Value of PLATFORM_RATE_LIMIT that switches the limit off."""
SQL_TARGET_PARTS = ("sql_target_server", "sql_target_database", "sql_target_user", "sql_target_password")
"""Settings that together name an SQL target, instead of its URL."""
_MAIL_ADDRESS = r"[^\s@:/<>,;]+@[^\s@:/<>,;]+"
_ADDRESS = rf"https?://[^\s/]\S*|{_MAIL_ADDRESS}"
_MAIL_SERVER = r"smtps?://(\S+@)?[^\s/?#@]+/?"
_REDIS = r"rediss?://([^\s/?#@]*@)?([^\s/?#@:\[\]]+|\[[0-9a-fA-F:.]+\])(:(?P<port>\d{1,5}))?(/\d*)?"
_LARGEST_PORT = 65_535
_STRIPS_DOCSTRINGS = 2
"""Python's optimisation level that removes docstrings (`-OO`)."""


Group = TypeVar("Group", bound="SettingsGroup")


class SettingsError(Exception):
    """A variable has an invalid value; the message names the variable and the allowed values."""


class SettingsGroup(BaseSettings):
    """A group of variables; each field is the variable `PLATFORM_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )


class DomainSettings(SettingsGroup):
    """Base class for the variables of one domain.

    Raises
    ------
    TypeError
        The name of a secret does not match `SECRET_NAME`. A process that does not import the domain uses only the name
        of a variable to decide whether to mask its value.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Check the names of secret fields."""
        for name, field in cls.model_fields.items():
            if field.annotation is SecretStr and not SECRET_NAME.search(name):
                raise TypeError(
                    f"{variable(name)} in {cls.__module__} is a secret, but its name does not show it; use a name that "
                    "contains token, password, secret, credential, signature, webhook or key"
                )


class Settings(SettingsGroup):
    """The platform's own variables."""

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
            description="`demo`: generate sample data for each source that is not set. `live`: fail, and name the "
            "variable to set."
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
            "migrate`, and for the first key that approves. Default: `PLATFORM_DATABASE_URL`."
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
    max_bad_rows: Annotated[
        float,
        Field(
            ge=0, le=1, description="Largest share of bad rows in a load, from 0 to 1. Above it, the load is refused."
        ),
    ] = 0.05
    retention_days: Annotated[int, Field(ge=1, description="Days for which old versions of a table stay readable.")] = (
        30
    )
    predictions_days: Annotated[
        int, Field(ge=1, description="Days for which predictions stay in the prediction log.")
    ] = 365
    predictions_logged: Annotated[
        Literal["after", "before"],
        Field(
            description="`after`: the service logs a prediction within about 0.2 s of its response. `before`: it logs "
            "the prediction before it responds, which is slower but loses none if the process is killed."
        ),
    ] = "after"
    runs_days: Annotated[
        int,
        Field(
            ge=1,
            description="Days for which runs stay in Dagster's history. Runs that made a table or a model are kept "
            "longer; only their log lines are deleted.",
        ),
    ] = 90
    landing_days: Annotated[
        int | None,
        Field(
            ge=1,
            description="Days for which processed files stay in landing zones. Default: they are never removed.",
        ),
    ] = None
    backup_days: Annotated[
        int, Field(ge=1, description="Days after which `doctor` and `readiness` report the newest backup as too old.")
    ] = 7
    drift_action: Annotated[
        Literal["none", "evaluate", "train"],
        Field(
            description="Job to launch when the new rows of a model have drifted from its training rows: no job "
            "(`none`), `evaluate_<model>` (`evaluate`) or `train_<model>` (`train`)."
        ),
    ] = "none"
    drift_cool_down_hours: Annotated[
        float, Field(ge=0, description="Shortest time between two launches because of drift, per model, in hours.")
    ] = 24.0
    false_alarm_days: Annotated[
        float,
        Field(
            gt=0,
            description="Shortest mean time between two false alarms of the whole platform, in days: of all checks of "
            "all models and tables together. More days mean later detection.",
        ),
    ] = 90.0
    drift_false_alarm_days: Annotated[
        float,
        Field(
            gt=0,
            description="Shortest mean time between two false alarms of drift detection, per model, in days. More days "
            "mean fewer false alarms, and later detection.",
        ),
    ] = 2_000.0
    engine: Annotated[
        Literal["duckdb", "spark"],
        Field(
            description="Engine that computes derived tables. `duckdb`: in the process of the run. `spark`: on a "
            "cluster. See [Scale](scale.md)."
        ),
    ] = "duckdb"
    spark_remote: Annotated[
        str,
        Field(
            description="Address of Spark: `sc://host:port` of a Connect server, or a master such as "
            "`spark://host:port`. Default: Spark in the process of the run."
        ),
    ] = "local[*]"
    engine_memory: Annotated[
        str,
        Field(description="Memory limit of DuckDB, for example `2GB`."),
    ] = "2GB"
    engine_threads: Annotated[
        int | None, Field(ge=1, description="Number of threads of DuckDB. Default: all cores.")
    ] = None
    executor: Annotated[
        Literal["in_process", "multiprocess", "celery", "k8s"],
        Field(
            description="Where the steps of a run are executed: in the process of the run (`in_process`), each in a "
            "separate process (`multiprocess`), on Celery workers (`celery`), or each in a Kubernetes job (`k8s`). "
            "See [Scale](scale.md#runs-on-several-machines)."
        ),
    ] = "in_process"
    run_launcher: Annotated[
        Literal["local", "celery", "k8s"],
        Field(
            description="Where Dagster starts a run: on the machine of the code location (`local`), on a Celery worker "
            "(`celery`), or in a Kubernetes job (`k8s`)."
        ),
    ] = "local"
    celery_broker_url: Annotated[
        SecretStr,
        Field(
            description="Redis server that distributes work to Celery workers: `redis://:password@host:6379/0` or "
            "`rediss://..`."
        ),
    ] = SecretStr("")
    kubernetes_config: Annotated[
        Path | None,
        Field(
            description="YAML file with the configuration of dagster-k8s' `K8sRunLauncher`: image, namespace, service "
            "account, secrets and resources of the Kubernetes jobs."
        ),
    ] = None
    dagster_port: Annotated[int, Field(ge=1, le=65535, description="Port of Dagster's UI under `make up`.")] = 3000
    mlflow_port: Annotated[int, Field(ge=1, le=65535, description="Port of MLflow under `make up`.")] = 5000
    service_port: Annotated[int, Field(ge=1, le=65535, description="Port of the HTTP service.")] = 8000
    dagster_url: Annotated[
        str, Field(description="Address of Dagster's UI for links. Default: that of `make up`; in production no links.")
    ] = ""
    mlflow_url: Annotated[
        str, Field(description="Address of MLflow for links. Default: that of `make up`; in production no links.")
    ] = ""
    service_url: Annotated[
        str, Field(description="Address of the service for links. Default: that of `make up`; in production no links.")
    ] = ""
    serve_workers: Annotated[
        int, Field(ge=1, le=256, description="Number of processes of the HTTP service, which share its port.")
    ] = 1
    rate_limit: Annotated[
        str,
        Field(
            description="Requests allowed per API key, or per IP address for requests without a key. `off`: no limit."
        ),
    ] = "600/minute"
    limits_url: Annotated[
        SecretStr,
        Field(
            description="Redis server in which all processes of the service count requests for `PLATFORM_RATE_LIMIT`: "
            "`redis://user:password@host:6379/0`, or `rediss://..` for TLS. Needs the extra `redis`. Default: each "
            "process counts its own requests. See [Rate limits](service.md#rate-limits)."
        ),
    ] = SecretStr("")
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
        str, Field(description="User that loads. It needs SELECT, INSERT and UPDATE on the tables.")
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
    alert_webhook_url: Annotated[
        SecretStr,
        Field(
            description="URL that receives a JSON message about each incident whose owners have no route in "
            "`PLATFORM_ALERT_ROUTES`. Slack and Mattermost can show it. Default: incidents are only logged. "
            "See [Alerts](alerts.md)."
        ),
    ] = SecretStr("")
    alert_routes: Annotated[
        SecretStr,
        Field(
            description="Receivers of messages about incidents, by the owner of the affected asset: "
            "`team:risk=https://hooks.example/x anna@example.org; escalation=boss@example.org`. `default` is for all "
            "other owners, `escalation` for incidents that stay open. An owner that is a mail address needs no route."
        ),
    ] = SecretStr("")
    alert_smtp_url: Annotated[
        SecretStr,
        Field(
            description="Mail server that sends mail about incidents: `smtp://user:password@host:587` or "
            "`smtps://user:password@host`. Default: no mail."
        ),
    ] = SecretStr("")
    alert_mail_from: Annotated[str, Field(description="Sender address of mails about incidents.")] = (
        "platform-assets@localhost"
    )
    alert_reopen_minutes: Annotated[
        float,
        Field(ge=0, description="Minutes within which a problem that returns opens its last incident again."),
    ] = 60.0
    alert_escalate_hours: Annotated[
        float, Field(gt=0, description="Hours after which an open incident is escalated, once.")
    ] = 24.0
    heartbeat_url: Annotated[
        SecretStr,
        Field(
            description="URL that `make up` and `platform-assets serve` call every minute while the database answers "
            "and Dagster's daemon is alive. Use a dead man's switch that alerts you when the calls stop. Default: none."
        ),
    ] = SecretStr("")
    openlineage_url: Annotated[
        str,
        Field(
            description="Server that receives lineage as OpenLineage events, such as Marquez: "
            "`http://host:5000`. Default: no events. See [Trace](trace.md#in-a-catalogue)."
        ),
    ] = ""
    openlineage_api_key: Annotated[
        SecretStr, Field(description="API key for the OpenLineage server, sent as a bearer token. Default: none.")
    ] = SecretStr("")
    api_keys: Annotated[
        SecretStr,
        Field(
            description="API keys of a service without a database: `name:scope:sha256`, separated by commas. Join "
            "several scopes with `+`."
        ),
    ] = SecretStr("")
    bundle: Annotated[
        Path | None,
        Field(
            description="Folder written by `platform-assets export`. `platform-assets serve` then serves only this "
            "model, without database and lake."
        ),
    ] = None
    api_key: Annotated[
        SecretStr, Field(description="Your API key. `platform-assets decide` and `rollback` identify you by it.")
    ] = SecretStr("")
    approvals_require_identity: Annotated[
        Literal["off", "on"] | None,
        Field(
            description="`on`: only people who are identified by an API key may decide about a model. Default: `on` in "
            "production, `off` in development."
        ),
    ] = None
    sign_in_key: Annotated[
        SecretStr,
        Field(
            description="API key with the scope `identify`, with which the service starts sessions of people who sign "
            "in by OpenID Connect or through a proxy. See [Sign in](sign-in.md)."
        ),
    ] = SecretStr("")
    group_scopes: Annotated[
        str,
        Field(
            description="Scopes that groups of the OpenID Connect provider or the proxy give: "
            "`GROUP=read+approve; OTHER=read`. Default: groups give nothing, and only enrolled people can sign in."
        ),
    ] = ""
    oidc_issuer: Annotated[
        str,
        Field(
            description="Issuer of an OpenID Connect provider, by which people sign in on the pages. The provider's "
            "configuration is read from `<issuer>/.well-known/openid-configuration`. Default: people sign in with keys."
        ),
    ] = ""
    oidc_client_id: Annotated[str, Field(description="Client id of the service at the OpenID Connect provider.")] = ""
    oidc_client_secret: Annotated[
        SecretStr, Field(description="Client secret of the service. Default: none, for a public client.")
    ] = SecretStr("")
    oidc_claim: Annotated[
        str,
        Field(
            description="Claim of the ID token that names a person. People must not be able to change its value. "
            "`email` also needs the claim `email_verified`."
        ),
    ] = "email"
    oidc_groups_claim: Annotated[str, Field(description="Claim of the ID token with the person's groups or roles.")] = (
        "groups"
    )
    oidc_request_scopes: Annotated[
        str, Field(description="OAuth scopes that the service requests from the OpenID Connect provider.")
    ] = "openid email profile"
    proxy_user_header: Annotated[
        str,
        Field(
            description="Header in which a trusted proxy names the signed-in person, for example "
            "`X-Forwarded-Email`. Default: no proxy signs people in."
        ),
    ] = ""
    proxy_groups_header: Annotated[
        str, Field(description="Header in which the proxy lists the person's groups, separated by commas.")
    ] = ""
    proxy_trusted: Annotated[
        str,
        Field(description="IP addresses or networks of the proxy, separated by commas, for example `10.0.3.0/24`."),
    ] = ""
    proxy_secret: Annotated[
        SecretStr,
        Field(
            description="Secret that the proxy must send in the header `X-Platform-Proxy-Secret`. Default: the address "
            "of the proxy is enough."
        ),
    ] = SecretStr("")
    demo_rows: Annotated[int, Field(ge=100, description="Number of rows in each sample data set.")] = 20_000
    archive_max_bytes: Annotated[
        int, Field(ge=1, description="Largest size of an unpacked tar archive and of its file, in bytes.")
    ] = 1 << 28
    unpacked_max_bytes: Annotated[
        int, Field(ge=1, description="Largest size of any other packed source file once it is unpacked, in bytes.")
    ] = 10 << 30

    @field_validator("home")
    @classmethod
    def _absolute(cls, home: Path) -> Path:
        folder = home.expanduser().absolute()
        # DuckDB treats a backslash as an escape, and PostgreSQL's tools refuse control characters.
        if refused := sorted(set(re.findall(r"[\\\x00-\x1f\x7f\ud800-\udfff]", str(folder)))):
            named = " ".join(repr(one)[1:-1] for one in refused)
            raise ValueError(f"must be a folder without {named} in its path, not {str(folder)!r}")
        return folder

    @field_validator("dagster_url", "mlflow_url", "service_url")
    @classmethod
    def _address(cls, text: str) -> str:
        if text and not re.fullmatch(r"https?://[^\s/?#@]+(/[^\s?#]*)?", text):
            raise ValueError("must be an address without user and query, for example https://dagster.example.org")
        return text.rstrip("/")

    @field_validator("oidc_issuer")
    @classmethod
    def _issuer(cls, text: str) -> str:
        # Plain HTTP only to this machine, because the keys that sign identities come from this address.
        if text and not re.fullmatch(r"(https://[^\s/?#@]+|http://(localhost|127\.0\.0\.1)(:\d+)?)(/[^\s?#]*)?", text):
            raise ValueError(
                "must be the issuer's https address without user and query, exactly as the provider states it, for "
                "example https://login.example.org/realms/staff"
            )
        return text

    @field_validator("proxy_user_header", "proxy_groups_header")
    @classmethod
    def _header(cls, text: str) -> str:
        if text and not re.fullmatch(r"[A-Za-z0-9-]{1,100}", text):
            raise ValueError(f"must be the name of a header, for example X-Forwarded-Email, not {text!r}")
        return text

    @field_validator("proxy_trusted")
    @classmethod
    def _networks(cls, text: str) -> str:
        for one in filter(None, map(str.strip, text.split(","))):
            try:
                ip_network(one)
            except ValueError as error:
                raise ValueError(f"must be IP addresses or networks, for example 10.0.3.0/24: {error}") from None
        return text

    @field_validator("group_scopes")
    @classmethod
    def _groups(cls, text: str) -> str:
        for entry in filter(None, map(str.strip, re.split(r"[;\n]", text))):
            if not re.fullmatch(r"[^=]*[^=\s]\s*=\s*\w+(\s*\+\s*\w+)*", entry):
                raise ValueError(f"must be GROUP=scope+scope, with semicolons between groups; {entry!r} is not")
        return text

    @field_validator("alert_routes")
    @classmethod
    def _routes(cls, text: SecretStr) -> SecretStr:
        for number, (owner, addresses) in enumerate(_split_routes(text.get_secret_value()), start=1):
            # Do not quote the addresses, because the URL of a webhook is a secret.
            if not owner or not addresses or not all(re.fullmatch(_ADDRESS, one) for one in addresses):
                raise ValueError(
                    f"route {number} must be owner=address, with http(s) URLs or mail addresses separated by blanks, "
                    "for example team:risk=https://hooks.example/x anna@example.org; separate routes by semicolons"
                )
        return text

    @field_validator("alert_smtp_url")
    @classmethod
    def _mail_server(cls, text: SecretStr) -> SecretStr:
        if text.get_secret_value() and not re.fullmatch(_MAIL_SERVER, text.get_secret_value()):
            raise ValueError("must be smtp://host:port or smtps://host:port, with user:password@ if the server asks")
        return text

    @field_validator("alert_mail_from")
    @classmethod
    def _sender(cls, text: str) -> str:
        if not re.fullmatch(_MAIL_ADDRESS, text):
            raise ValueError(f"must be a mail address, for example platform@example.org, not {text!r}")
        return text

    @field_validator("engine_memory")
    @classmethod
    def _size(cls, text: str) -> str:
        if not re.fullmatch(r"\d+(\.\d+)?\s?[KMGT]i?B", text):
            raise ValueError("must be a number and a unit (KB, MB, GB, TB, KiB ..), for example 2GB")
        return text

    @field_validator("limits_url", "celery_broker_url")
    @classmethod
    def _redis(cls, text: SecretStr) -> SecretStr:
        if not text.get_secret_value():
            return text
        url = re.fullmatch(_REDIS, text.get_secret_value())
        if url is None or int(url["port"] or 0) > _LARGEST_PORT:
            raise ValueError(
                "must be redis://host:port/number or rediss://host:port/number, with user:password@ if the server asks "
                "for it; percent-encode special characters of the password"
            )
        return text

    @field_validator("rate_limit")
    @classmethod
    def _rate(cls, text: str) -> str:
        if text != NO_LIMIT and not re.fullmatch(r"[1-9]\d{0,8}/(second|minute|hour|day)", text):
            raise ValueError(f"must be a number per second, minute, hour or day, for example 600/minute, or {NO_LIMIT}")
        return text

    @model_validator(mode="after")
    def _production_is_not_a_demo(self) -> Self:
        if self.env == "production" and not (self.database_url.get_secret_value() or self.bundle):
            msg = "production needs PLATFORM_DATABASE_URL; the embedded database is for development"
            raise ValueError(msg)
        if self.env == "production" and self.sources == "demo":
            msg = "production needs PLATFORM_SOURCES=live, so that demo data are not mistaken for real data"
            raise ValueError(msg)
        if self.env == "production" and self.lake_is_memory:
            msg = "production needs a PLATFORM_LAKE_URI that keeps tables: a folder or an object store, not memory://"
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
            raise ValueError("PLATFORM_EXECUTOR=k8s needs PLATFORM_RUN_LAUNCHER=k8s, whose configuration it uses")
        if self.lake_is_memory and self.executor != "in_process":
            raise ValueError(f"PLATFORM_EXECUTOR={self.executor} needs a lake that all processes share, not memory://")
        return self

    @model_validator(mode="after")
    def _sign_in_is_complete(self) -> Self:
        needs: list[tuple[bool, str, tuple[str, ...]]] = [
            (bool(self.oidc_issuer), "PLATFORM_OIDC_ISSUER", ("oidc_client_id", "sign_in_key")),
            (bool(self.proxy_user_header), "PLATFORM_PROXY_USER_HEADER", ("proxy_trusted", "sign_in_key")),
            (bool(self.oidc_client_id), "PLATFORM_OIDC_CLIENT_ID", ("oidc_issuer",)),
            (bool(self.proxy_groups_header), "PLATFORM_PROXY_GROUPS_HEADER", ("proxy_user_header",)),
            (bool(self.oidc_issuer) and self.env == "production", "PLATFORM_OIDC_ISSUER", ("service_url",)),
        ]
        for is_set, name, others in needs:
            values = {other: getattr(self, other) for other in others}
            lacking = [
                variable(other)
                for other, value in values.items()
                if not (value.get_secret_value() if isinstance(value, SecretStr) else value)
            ]
            if is_set and lacking:
                raise ValueError(f"{' and '.join(lacking)} must be set as well, because {name} is set")
        has_database = not self.bundle and not self.api_keys.get_secret_value()
        if not has_database and (self.oidc_issuer or self.proxy_user_header):
            raise ValueError(
                "people sign in without keys only on a service with a database; unset PLATFORM_OIDC_ISSUER and "
                "PLATFORM_PROXY_USER_HEADER, or PLATFORM_BUNDLE and PLATFORM_API_KEYS"
            )
        return self

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

    @model_validator(mode="after")
    def _mail_has_a_server(self) -> Self:
        routes = _split_routes(self.alert_routes.get_secret_value())
        if not self.alert_smtp_url.get_secret_value() and any("://" not in one for _, route in routes for one in route):
            raise ValueError("PLATFORM_ALERT_ROUTES has a mail address, which needs PLATFORM_ALERT_SMTP_URL")
        return self

    @property
    def alert_destinations(self) -> dict[str, list[str]]:
        """Return the addresses of receivers by owner; `default` includes PLATFORM_ALERT_WEBHOOK_URL."""
        found: dict[str, list[str]] = {}
        webhook = self.alert_webhook_url.get_secret_value()
        for owner, addresses in _split_routes(self.alert_routes.get_secret_value()):
            found.setdefault(owner, []).extend(addresses)
        if webhook:
            found.setdefault("default", []).insert(0, webhook)
        return found

    @property
    def identity_required(self) -> bool:
        """Return whether only authenticated people may decide about models."""
        return self.approvals_require_identity == "on" or (
            self.approvals_require_identity is None and self.env == "production"
        )

    @property
    def uses_several_machines(self) -> bool:
        """Return whether steps or runs may be executed on other machines."""
        return bool({self.executor, self.run_launcher} & {"celery", "k8s"})

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
                found += _secrets_in_uri(text)
            elif isinstance(value, SecretStr) and text:
                found.append(text)
        webhooks = (one for route in self.alert_destinations.values() for one in route if "://" in one)
        return list(dict.fromkeys([*found, *webhooks, *_secrets_in_environment()]))


def _split_routes(text: str) -> list[tuple[str, list[str]]]:
    """Return the owner and the addresses of each route."""
    parts = [route.partition("=") for route in re.split(r"[;\n]", text) if route.strip()]
    return [(owner.strip(), addresses.split()) for owner, _, addresses in parts]


def _secrets_in_environment() -> list[str]:
    own = {variable(field) for field in Settings.model_fields}
    found: list[str] = []
    for name, value in os.environ.items():
        if not name.startswith(PREFIX) or name in own:
            continue
        found += _secrets_in_uri(value) if "://" in value else []
        if SECRET_NAME.search(name.removeprefix(PREFIX)) and len(value) >= SHORTEST_NAMED_SECRET:
            found.append(value)
    return found


def _secrets_in_uri(uri: str) -> list[str]:
    """Return the user, the password and the long query values; masking a short value would mask common words."""
    found = []
    for userinfo in (match["userinfo"] for match in USERINFO.finditer(uri)):
        password = userinfo.partition(":")[2]
        found += [userinfo, password] if password or len(userinfo) >= SHORTEST_SECRET else []
    found += [value for value in re.findall(r"[?&][^=&]*=([^&\s]+)", uri) if len(value) >= SHORTEST_SECRET]
    return list(dict.fromkeys(form for text in found if text for form in (text, unquote(text))))


def variable(field: str) -> str:
    """Return the name of the environment variable of a field."""
    return PREFIX + field.upper()


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


def read_settings(kind: type[Group]) -> Group:
    """Read a group of variables from the environment.

    Parameters
    ----------
    kind
        `Settings`, or the class of a domain.

    Raises
    ------
    SettingsError
        A variable has an invalid value; the message names the variable and the allowed values.
    """
    try:
        return kind()
    except ValidationError as error:
        lines = (
            (f"{variable(str(problem['loc'][0]))}: " if problem["loc"] else "")
            + problem["msg"].removeprefix("Value error, ")
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise SettingsError("\n".join(lines)) from None


def unknown_variables(kinds: Iterable[type[SettingsGroup]]) -> dict[str, str | None]:
    """Return PLATFORM_ variables that no class declares, each with the most similar known name.

    Parameters
    ----------
    kinds
        `Settings` and the classes of all domains.
    """
    known = {variable(name) for kind in kinds for name in kind.model_fields}
    found = (name for name in os.environ if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, n=1)), None) for name in sorted(found)}
