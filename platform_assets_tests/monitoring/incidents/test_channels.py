"""Messages by email and webhook: encryption, refusals, and errors that contain no secrets."""

from __future__ import annotations

import ssl
from dataclasses import replace
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.incidents import channels
from platform_assets.monitoring.incidents.channels import Notice, mail, post
from platform_assets_tests.monitoring.incidents.receivers import mail_server, webhook
from platform_assets_tests.ports import reserve_port

NOTICE = Notice("key-1", "thread-1", "Łódź failed", "text", {"event": "run_failed"})


def failure(server: str) -> str:
    with pytest.raises(PlatformError) as caught:
        mail(server, "platform@example.org", "anna@example.org", NOTICE)
    assert caught.value.__cause__ is None
    return str(caught.value)


def authenticator(_server: Any, _session: Any, _envelope: Any, _mechanism: str, data: Any) -> AuthResult:
    is_right = (data.login, data.password) == (b"anna", b"se/same")
    # Pass `handled=False`, because the server would otherwise not respond to a wrong password.
    return AuthResult(success=is_right, handled=False)


@pytest.mark.requirement("MON-3")
def test_a_mail_is_sent_with_a_password() -> None:
    with mail_server(authenticator=authenticator, auth_require_tls=False) as box:
        server = box.url.replace("smtp://", "smtp://anna:se%2Fsame@")
        mail(server, "platform@example.org", "anna@example.org", NOTICE)
        [received] = box.mails
        assert (received["Subject"], received["From"]) == ("Łódź failed", "platform@example.org")
        wrong = failure(box.url.replace("smtp://", "smtp://anna:hunter2@"))
    assert wrong == "the message was not sent by email: 535"


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("answer", "told"),
    [("554 spam of hunter2", "554"), ("451 later", "451")],
)
def test_an_error_contains_the_mail_servers_status_code_but_not_its_text(answer: str, told: str) -> None:
    with mail_server(answer) as box:
        assert failure(box.url) == f"the message was not sent by email: {told}"


def test_the_error_for_an_unreachable_mail_server_contains_no_address() -> None:
    told = "the message was not sent by email: ConnectionRefusedError"
    assert failure(f"smtp://anna:hunter2@127.0.0.1:{reserve_port()}") == told


def test_a_malformed_host_name_of_the_mail_server_raises_an_error() -> None:
    assert failure("smtp://mail..example") == "the message was not sent by email: UnicodeError"


@pytest.mark.requirement("PLT-8")
def test_a_password_is_only_sent_encrypted_except_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    with mail_server() as box:
        monkeypatch.setattr(channels, "_is_loopback", lambda _: False)
        told = failure(box.url.replace("smtp://", "smtp://anna:hunter2@"))
    assert told.startswith("the mail server offers no encryption, so the password of PLATFORM_ALERT_SMTP_URL")
    assert "hunter2" not in told


@pytest.mark.requirement("PLT-8")
def test_no_mail_is_sent_to_a_server_with_an_untrusted_certificate() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with mail_server(tls_context=context) as box:
        assert "was not sent by email: SSL" in failure(box.url)
    assert box.mails == []


@pytest.mark.requirement("PLT-8")
@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("http://anna:sesame@127.0.0.1:%d/services/sesame", "ConnectionError"),
        ("http://[sesame", "InvalidURL"),
        ("http://sesame..example/", "LocationParseError"),
    ],
)
def test_the_error_for_an_unreachable_webhook_contains_no_address(url: str, reason: str) -> None:
    url = url % reserve_port() if "%d" in url else url
    with pytest.raises(PlatformError) as caught:
        post(url, NOTICE)
    assert str(caught.value) == f"the webhook cannot be reached: {reason}"


def test_markup_in_a_message_is_escaped_for_slack() -> None:
    told = 'unknown column "<!channel>" & more\nhttps://runs.example/?a=1&b=2'
    with webhook() as server:
        post(server.url, replace(NOTICE, text=told, facts={"subject": "<!channel>"}))
    [message] = server.received
    assert message["text"] == 'unknown column "&lt;!channel&gt;" &amp; more\nhttps://runs.example/?a=1&amp;b=2'
    assert message["subject"] == "<!channel>"


def test_a_webhook_that_does_not_respond_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "_SECONDS", 0.2)
    with webhook(0) as server, pytest.raises(PlatformError, match=r"^the webhook cannot be reached: ReadTimeout$"):
        post(server.url, NOTICE)
