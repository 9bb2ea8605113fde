"""Settings for drift, alerts and lineage."""

from __future__ import annotations

import re
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from platform_assets.settings.groups import LONGEST_DAYS, SettingsGroup

_MAIL_ADDRESS = r"[^\s@:/<>,;]+@[^\s@:/<>,;]+"
_URL = r"https?://[^\s/]\S*"
_ADDRESS = rf"{_URL}|{_MAIL_ADDRESS}"
_SERVER = r"https?://[^\s/?#]+(/[^\s?#]*)?"
_MAIL_SERVER = r"smtps?://(\S+@)?[^\s/?#@]+/?"


class MonitoringSettings(SettingsGroup):
    """Actions on drift, receivers of alerts, and the receiver of lineage events."""

    drift_action: Annotated[
        Literal["none", "evaluate", "train"],
        Field(
            description="Job to launch when the new rows of a model have drifted from its training rows: no job "
            "(`none`), `evaluate_<model>` (`evaluate`) or `train_<model>` (`train`)."
        ),
    ] = "none"
    drift_cool_down_hours: Annotated[
        float,
        Field(
            ge=0,
            le=24 * LONGEST_DAYS,
            description="Minimum time between two launches caused by drift, per model, in hours.",
        ),
    ] = 24.0
    false_alarm_days: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Minimum mean time between two false alarms, in days, over all checks of all models and "
            "tables. A larger value means later detection.",
        ),
    ] = 90.0
    drift_false_alarm_days: Annotated[
        float,
        Field(
            gt=0,
            allow_inf_nan=False,
            description="Minimum mean time between two false alarms of drift detection, per model, in days. A larger "
            "value means fewer false alarms and later detection.",
        ),
    ] = 2_000.0
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
            "other owners, `escalation` for incidents that stay open. An owner that is an email address needs no route."
        ),
    ] = SecretStr("")
    alert_smtp_url: Annotated[
        SecretStr,
        Field(
            description="Mail server that sends incident emails: `smtp://user:password@host:587` or "
            "`smtps://user:password@host`. Default: no emails."
        ),
    ] = SecretStr("")
    alert_mail_from: Annotated[str, Field(description="Sender address of incident emails.")] = (
        "platform-assets@localhost"
    )
    alert_reopen_minutes: Annotated[
        float,
        Field(
            ge=0,
            le=24 * 60 * LONGEST_DAYS,
            description="If a problem returns within this many minutes, its last incident is reopened.",
        ),
    ] = 60.0
    alert_escalate_hours: Annotated[
        float, Field(gt=0, le=24 * LONGEST_DAYS, description="Hours after which an open incident is escalated, once.")
    ] = 24.0
    heartbeat_url: Annotated[
        SecretStr,
        Field(
            description="URL that `make up` and `platform-assets serve` call every minute while the database responds "
            "and Dagster's daemon is alive. Use a dead man's switch that alerts you when the calls stop. Default: none."
        ),
    ] = SecretStr("")
    openlineage_url: Annotated[
        str,
        Field(
            description="Server that receives lineage as OpenLineage events, such as Marquez: "
            "`http://host:5000`. Default: no events. See [Trace](trace.md#send-lineage-to-a-catalogue)."
        ),
    ] = ""
    openlineage_api_key: Annotated[
        SecretStr, Field(description="API key for the OpenLineage server, sent as a bearer token. Default: none.")
    ] = SecretStr("")

    @field_validator("alert_routes")
    @classmethod
    def _routes(cls, text: SecretStr) -> SecretStr:
        for number, (owner, addresses) in enumerate(_split_routes(text.get_secret_value()), start=1):
            # Do not quote the addresses, because the URL of a webhook is a secret.
            if not owner or not addresses or not all(_matches(_ADDRESS, one) for one in addresses):
                raise ValueError(
                    f"route {number} must be owner=address, with http(s) URLs or email addresses separated by spaces, "
                    "for example team:risk=https://hooks.example/x anna@example.org; separate routes by semicolons"
                )
        return text

    @field_validator("alert_webhook_url", "heartbeat_url")
    @classmethod
    def _url(cls, text: SecretStr) -> SecretStr:
        # Do not quote the URL, because it is a secret.
        if text.get_secret_value() and not _matches(_URL, text.get_secret_value()):
            raise ValueError("must be an http(s) URL, for example https://hooks.example.org/x")
        return text

    @field_validator("openlineage_url")
    @classmethod
    def _server(cls, text: str) -> str:
        if text and not _matches(_SERVER, text):
            raise ValueError("must be the address of a server, for example http://marquez.example.org:5000")
        return text

    @field_validator("alert_smtp_url")
    @classmethod
    def _mail_server(cls, text: SecretStr) -> SecretStr:
        if text.get_secret_value() and not _matches(_MAIL_SERVER, text.get_secret_value()):
            raise ValueError(
                "must be smtp://host:port or smtps://host:port, with user:password@ if the server needs it"
            )
        return text

    @field_validator("alert_mail_from")
    @classmethod
    def _sender(cls, text: str) -> str:
        if not re.fullmatch(_MAIL_ADDRESS, text):
            raise ValueError(f"must be an email address, for example platform@example.org, not {text!r}")
        return text

    @model_validator(mode="after")
    def _mail_has_a_server(self) -> Self:
        routes = _split_routes(self.alert_routes.get_secret_value())
        if not self.alert_smtp_url.get_secret_value() and any("://" not in one for _, route in routes for one in route):
            raise ValueError("PLATFORM_ALERT_ROUTES has an email address, which needs PLATFORM_ALERT_SMTP_URL")
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


def _matches(pattern: str, address: str) -> bool:
    """Return whether an address matches a pattern. If it is a URL, its host and port must be valid too."""
    try:
        return re.fullmatch(pattern, address) is not None and urlsplit(address).port != 0
    except ValueError:
        return False


def _split_routes(text: str) -> list[tuple[str, list[str]]]:
    """Return the owner and the addresses of each route."""
    parts = [route.partition("=") for route in re.split(r"[;\n]", text) if route.strip()]
    return [(owner.strip(), addresses.split()) for owner, _, addresses in parts]
