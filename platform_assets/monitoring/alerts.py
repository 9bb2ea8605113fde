"""Alerts for people: a JSON message to a webhook and a line in the log."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from http import HTTPStatus

from platform_assets.base.errors import PlatformError

_log = logging.getLogger(__name__)
_SECONDS = 10
"""Timeout of one request. Four of them and the waits between stay below Dagster's limit of a minute for a sensor."""
_ATTEMPTS = 4


@dataclass(frozen=True)
class Alert:
    """A notification about one event.

    Attributes
    ----------
    event
        Kind of event, e.g. `run_failed`.
    subject
        Identifier of the affected object, e.g. a run id.
    text
        Message for people.
    link
        Path of the page with details, relative to the Dagster UI.
    """

    event: str
    subject: str
    text: str
    link: str


class Alerts:
    """Sends alerts.

    Parameters
    ----------
    webhook_url
        Receives each alert as a JSON object with `event`, `subject`, `text`, `link`. Empty: alerts go to the log only.
    first_wait
        Seconds before the second attempt. Each further wait is twice as long.
    """

    def __init__(self, webhook_url: str, first_wait: float = 1.0) -> None:
        self._webhook_url = webhook_url
        self._first_wait = first_wait

    def send(self, alert: Alert) -> None:
        """Log the alert and post it. Retry transient failures: no connection, timeout, 429, 5xx.

        Raises
        ------
        PlatformError
            Every attempt failed. The message leaves out the webhook's address, which is a secret.
        """
        import requests

        _log.error("%s", alert.text, extra=asdict(alert))
        if not self._webhook_url:
            return
        try:
            self._post(alert)
        except requests.HTTPError as error:
            raise PlatformError(f"the alert webhook answered {error.response.status_code}") from None
        except (requests.RequestException, ValueError) as error:  # ValueError for some invalid addresses
            raise PlatformError(f"the alert webhook cannot be reached: {type(error).__name__}") from None

    def _post(self, alert: Alert) -> None:
        import requests
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

        # Dagster evaluates the sensor once per failed run, even if the evaluation fails. Without retries, the alert
        # would be lost.
        attempts = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_exponential(multiplier=self._first_wait),
            retry=retry_if_exception(_passes),
            reraise=True,
        )
        for attempt in attempts:
            with attempt:
                requests.post(self._webhook_url, json=asdict(alert), timeout=_SECONDS).raise_for_status()


def _passes(error: BaseException) -> bool:
    """Whether the failure is transient."""
    import requests

    if isinstance(error, requests.HTTPError):
        status: int = error.response.status_code
        return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, requests.ConnectionError | requests.Timeout)
