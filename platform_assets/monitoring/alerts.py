"""Telling people that something needs them: one JSON message to a webhook, and a line in the log."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass
from http import HTTPStatus

from platform_assets.base.errors import PlatformError

_log = logging.getLogger(__name__)
# Four times this and the waits stay below the minute that Dagster gives a sensor.
_SECONDS = 10
_ATTEMPTS = 4


@dataclass(frozen=True)
class Alert:
    """What happened.

    Attributes
    ----------
    event
        What kind of thing, e.g. `run_failed`.
    subject
        Its name: a run's id.
    text
        What a person should know first.
    link
        Where to look, relative to the Dagster UI.
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
        Gets each alert as a JSON object with `event`, `subject`, `text`, `link`; empty: the log only.
    first_wait
        Seconds before the second attempt; each further wait is twice as long.
    """

    def __init__(self, webhook_url: str, first_wait: float = 1.0) -> None:
        self._webhook_url = webhook_url
        self._first_wait = first_wait

    def send(self, alert: Alert) -> None:
        """Log it and post it. What passes (no connection, no answer in time, 429, 5xx) is tried again.

        Raises
        ------
        PlatformError
            The webhook did not take it, several times; its address, which is a secret, is not told.
        """
        import requests

        _log.error("%s", alert.text, extra=asdict(alert))
        if not self._webhook_url:
            return
        try:
            self._post(alert)
        except requests.HTTPError as error:
            raise PlatformError(f"the alert webhook answered {error.response.status_code}") from None
        except (requests.RequestException, ValueError) as error:  # the latter for some addresses that are none
            raise PlatformError(f"the alert webhook cannot be reached: {type(error).__name__}") from None

    def _post(self, alert: Alert) -> None:
        import requests
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

        # Dagster evaluates a sensor of failed runs once for each, also when that fails: the alert would be lost.
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
    """Whether the same request may succeed a little later."""
    import requests

    if isinstance(error, requests.HTTPError):
        status: int = error.response.status_code
        return status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return isinstance(error, requests.ConnectionError | requests.Timeout)
