"""Watch the platform from outside Dagster: a thread of `platform-assets serve` and of `platform-assets up`.

Dagster cannot report that its own daemon is dead. While the daemon is dead, only this thread sends messages. While the
daemon is alive, the thread calls the URL of a dead man's switch.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError
from platform_assets.monitoring.incidents import kinds
from platform_assets.monitoring.incidents.problems import report

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from platform_assets.monitoring.incidents.delivery import Delivery
    from platform_assets.monitoring.incidents.problems import Findings
    from platform_assets.monitoring.incidents.store import Incidents

_LOG = logging.getLogger(__name__)
LOOK_SECONDS = 20.0
PING_SECONDS = 60.0
_TIMEOUT_SECONDS = 10
_GRACE_SECONDS = 5.0


class Watch:
    """Thread that looks for problems and sends the messages that are due.

    Parameters
    ----------
    looks
        Functions that look for problems, one for each component.
    incidents
        Store of incidents, in which problems are reported.
    delivery
        Sender of the messages.
    ping_url
        URL of a dead man's switch; empty if no switch is used.
    seconds
        Time between two searches for problems, in seconds.
    """

    def __init__(
        self,
        looks: Sequence[Callable[[], Findings]],
        incidents: Incidents,
        delivery: Delivery,
        ping_url: str = "",
        seconds: float = LOOK_SECONDS,
    ) -> None:
        self._looks = looks
        self._incidents = incidents
        self._delivery = delivery
        self._ping_url = ping_url
        self._seconds = seconds
        self._next_ping = 0.0
        self._trouble = ""
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread."""
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop the thread, and wait up to 5 s for it to end."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(_GRACE_SECONDS)

    def look(self) -> None:
        """Look for problems once, and send the messages that are due.

        If the daemon is alive, this also calls the dead man's switch.

        Raises
        ------
        PlatformError
            The database does not answer.
        """
        all_findings = [look() for look in self._looks]
        for findings in all_findings:
            report(findings, self._incidents)
        self._delivery.deliver()
        # While the daemon is dead, most messages are not sent. Therefore do not call the dead man's switch during this
        # time, so that the switch raises an alarm. For all other problems, the messages about their incidents suffice.
        is_alive = not any(
            one.cause.startswith(kinds.DAEMON_SILENT) for found in all_findings for one in found.problems
        )
        if is_alive and self._ping_url and time.monotonic() >= self._next_ping:
            self._next_ping = time.monotonic() + PING_SECONDS
            self._ping()

    def _ping(self) -> None:
        import requests

        try:
            answer = requests.get(self._ping_url, timeout=_TIMEOUT_SECONDS)
        except (requests.RequestException, ValueError) as error:  # some malformed addresses cause a ValueError
            _LOG.warning("PLATFORM_HEARTBEAT_URL cannot be reached: %s", type(error).__name__)
        else:
            if not answer.ok:
                _LOG.warning("PLATFORM_HEARTBEAT_URL returned HTTP %s", answer.status_code)

    def _run(self) -> None:
        while not self._stop.wait(self._seconds):
            try:
                self.look()
            # Catch every error, so that the thread continues. No other component would notice a dead daemon.
            except Exception as error:  # noqa: BLE001
                told = str(error) if isinstance(error, PlatformError) else repr(error)
                # Log an error only if it differs from the previous one, not at every search.
                if told != self._trouble:
                    _LOG.error("cannot check the state of the platform: %s", told)
                self._trouble = told
            else:
                self._trouble = ""
