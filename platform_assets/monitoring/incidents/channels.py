"""Send one message: to a webhook as JSON, or by email.

Error messages contain neither the webhook's URL nor the password of the mail server.
"""

from __future__ import annotations

import html
import smtplib
import ssl
from dataclasses import dataclass
from email.message import EmailMessage
from http import HTTPStatus
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote, urlsplit

from platform_assets.base.errors import PlatformError

_SECONDS = 10
"""Timeout of each network operation."""
_SMTP_PORT, _SMTPS_PORT = 587, 465


@dataclass(frozen=True)
class Notice:
    """The content of a message.

    Attributes
    ----------
    key
        Identifier of the message; the same for every attempt to send it.
    thread
        Identifier that all messages about the incident share.
    subject
        Subject of an email, one line.
    text
        Body of an email, several lines with links.
    facts
        The same content as a JSON object, for a webhook.
    """

    key: str
    thread: str
    subject: str
    text: str
    facts: dict[str, Any]


def post(url: str, notice: Notice) -> None:
    """Post a message to a webhook.

    The body is a JSON object with the facts of the notice, and its text as `text`, which Slack and Mattermost display.
    In `text`, `&`, `<` and `>` are escaped, because Slack would read `<!channel>` from an error message as a command:
    https://docs.slack.dev/messaging/formatting-message-text#escaping

    Raises
    ------
    PlatformError
        The receiver did not answer, or answered with an error.
    """
    import requests

    body = {"text": html.escape(notice.text, quote=False), **notice.facts}
    try:
        # Do not follow redirects, because the redirected request would be a GET without the message.
        answer = requests.post(
            url, json=body, timeout=_SECONDS, headers={"Idempotency-Key": notice.key}, allow_redirects=False
        )
    except (requests.RequestException, ValueError) as error:  # some malformed addresses cause a ValueError
        raise PlatformError(f"the webhook cannot be reached: {type(error).__name__}") from None
    if not answer.ok or answer.status_code >= HTTPStatus.MULTIPLE_CHOICES:
        raise PlatformError(f"the webhook returned HTTP {answer.status_code}")


def mail(server: str, sender: str, receiver: str, notice: Notice) -> None:
    """Send a message by email.

    The connection is encrypted if the server supports encryption. A password is sent only over an encrypted connection
    or to a server on this machine.

    Parameters
    ----------
    server
        URL of the mail server, as in PLATFORM_ALERT_SMTP_URL.
    sender
        Address of the sender.
    receiver
        Address of the receiver.
    notice
        Content of the message.

    Raises
    ------
    PlatformError
        The server cannot be reached or refuses the message.
    """
    try:
        with _connected(server) as connection:
            connection.send_message(_mail(sender, receiver, notice))
    except (OSError, ValueError, smtplib.SMTPException) as error:  # some malformed hosts cause a ValueError
        told = f"{error.smtp_code}" if isinstance(error, smtplib.SMTPResponseException) else type(error).__name__
        if isinstance(error, smtplib.SMTPRecipientsRefused):
            codes = ", ".join(str(code) for code, _ in error.recipients.values())
            told = f"the server refused the recipient ({codes})"
        raise PlatformError(f"the message was not sent by email: {told}") from None


def _mail(sender: str, receiver: str, notice: Notice) -> EmailMessage:
    message = EmailMessage()
    domain = sender.rpartition("@")[2]
    message["From"], message["To"], message["Subject"] = sender, receiver, notice.subject
    # Mail clients use Message-ID to drop duplicates, and References to group an incident's emails.
    message["Message-ID"] = f"<{notice.key}@{domain}>"
    message["References"] = f"<{notice.thread}@{domain}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(notice.text)
    return message


def _connected(server: str) -> smtplib.SMTP:
    url = urlsplit(server)
    host = url.hostname or ""
    if url.scheme == "smtps":
        context = ssl.create_default_context()
        connection: smtplib.SMTP = smtplib.SMTP_SSL(host, url.port or _SMTPS_PORT, timeout=_SECONDS, context=context)
    else:
        connection = smtplib.SMTP(host, url.port or _SMTP_PORT, timeout=_SECONDS)
    try:
        connection.ehlo()
        is_encrypted = url.scheme == "smtps"
        if not is_encrypted and connection.has_extn("starttls"):
            connection.starttls(context=ssl.create_default_context())
            connection.ehlo()
            is_encrypted = True
        if url.username:
            _demand_encryption(host, is_encrypted=is_encrypted)
            connection.login(unquote(url.username), unquote(url.password or ""))
    except BaseException:
        connection.close()
        raise
    return connection


def _demand_encryption(host: str, *, is_encrypted: bool) -> None:
    if not is_encrypted and not _is_loopback(host):
        raise PlatformError(
            "the mail server offers no encryption, so the password of PLATFORM_ALERT_SMTP_URL is not sent; use "
            "smtps://, or a server with STARTTLS"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
