"""Routes determine who gets the messages about an incident. They are read from the settings."""

from __future__ import annotations

import pytest

from platform_assets.monitoring.incidents.routes import Routes
from platform_assets.settings import Settings, SettingsError, read_settings

SHOP, RISK, BOSS = "https://hooks.example/shop-hunter2", "https://hooks.example/risk", "boss@example.org"
ROUTES = {"team:shop": [SHOP, BOSS], "team:risk": [RISK], "default": [RISK], "escalation": [BOSS]}


@pytest.mark.parametrize(
    ("owners", "addresses"),
    [
        (["team:shop"], [SHOP, BOSS]),
        (["team:shop", "team:risk"], [SHOP, BOSS, RISK]),
        (["team:shop", BOSS], [SHOP, BOSS]),
        (["anna@example.org"], ["anna@example.org"]),
        (["team:nobody"], [RISK]),
        ([], [RISK]),
    ],
)
def test_owners_get_the_destinations_of_their_routes(owners: list[str], addresses: list[str]) -> None:
    assert [one.address for one in Routes(ROUTES, mails=True).of(owners)] == addresses


def test_without_a_mail_server_an_owner_with_a_mail_address_gets_the_default_route() -> None:
    assert [one.address for one in Routes({"default": [RISK]}).of(["anna@example.org"])] == [RISK]
    assert Routes({}).of(["team:shop"]) == []


@pytest.mark.requirement("PLT-8")
def test_a_destinations_name_is_unique_and_contains_no_secret() -> None:
    routes = Routes(ROUTES, mails=True)
    for one in routes.of(["team:shop"]):
        assert routes.named(one.name) == one
        assert "hunter2" not in one.name
    assert routes.named("webhook 0123456789ab") is None
    assert Routes({}).named(f"mail {BOSS}") is None


def test_routes_are_read_from_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_ALERT_WEBHOOK_URL", RISK)
    monkeypatch.setenv("PLATFORM_ALERT_SMTP_URL", "smtp://anna:hunter2@mail.example.org:25")
    monkeypatch.setenv("PLATFORM_ALERT_ROUTES", f" team:shop = {SHOP}?a=b {BOSS};\nescalation={BOSS};default={SHOP} ")
    settings = read_settings(Settings)
    assert settings.alert_destinations == {
        "team:shop": [f"{SHOP}?a=b", BOSS],
        "escalation": [BOSS],
        "default": [RISK, SHOP],
    }
    assert {RISK, SHOP, f"{SHOP}?a=b", "smtp://anna:hunter2@mail.example.org:25"} <= {*settings.secrets()}


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("variable", "value", "told"),
    [
        ("ALERT_ROUTES", "team:shop=https://x.example/hunter2; hunter2", "route 2 must be owner=address"),
        ("ALERT_ROUTES", "=https://x.example/hunter2", "route 1 must be owner=address"),
        ("ALERT_ROUTES", "team:shop=ftp://hunter2", "route 1 must be owner=address"),
        ("ALERT_ROUTES", "team:shop=boss@example.org", "has an email address, which needs PLATFORM_ALERT_SMTP_URL"),
        ("ALERT_SMTP_URL", "hunter2@mail.example.org", "must be smtp://host:port or smtps://host:port"),
        ("ALERT_SMTP_URL", "http://hunter2", "must be smtp://host:port or smtps://host:port"),
        ("ALERT_MAIL_FROM", "platform", "must be an email address, for example platform@example.org, not 'platform'"),
        ("ALERT_ESCALATE_HOURS", "0", "greater than 0"),
    ],
)
def test_a_wrong_setting_is_refused_without_showing_secrets(
    variable: str, value: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(f"PLATFORM_{variable}", value)
    with pytest.raises(SettingsError) as caught:
        read_settings(Settings)
    assert told in str(caught.value)
    assert "hunter2" not in str(caught.value)
