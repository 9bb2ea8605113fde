"""Redaction: mask secrets in events and ticks before Dagster stores them, and in the log of its daemon."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, TypeVar

from dagster._core.scheduler.instigation import TickData
from dagster._serdes import deserialize_value, serialize_value

from platform_assets.base.logs import MaskedFormatter, redact

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dagster import EventLogEntry

Stored = TypeVar("Stored", "EventLogEntry", TickData)
# Fields that Dagster uses as identifiers. A weak password can be part of a name, and masking the name would
# lose the event.
IDENTITIES = frozenset(
    {
        *("__class__", "__enum__", "asset_key", "check_name", "event_type_value", "job_name", "logging_tags"),
        *("mapping_key", "output_name", "partition", "pipeline_name", "run_id", "solid_handle", "step_handle"),
        *("step_key", "step_kind_value", "step_output_handle"),
    }
)


class Redaction:
    """Masks secrets in values that Dagster is about to store.

    Parameters
    ----------
    secrets
        The secrets as plain text.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        # Mask escaped forms too: JSON escapes quotes and non-ASCII letters, and JSON within JSON escapes them twice.
        once = [json.dumps(secret)[1:-1] for secret in secrets]
        twice = [json.dumps(secret)[1:-1] for secret in once]
        self._written_secrets = tuple({*secrets, *once, *twice})

    def of(self, value: Stored) -> Stored:
        """Return the value with its secrets masked, or the value itself if it has none."""
        text = serialize_value(value)
        if redact(text, self._written_secrets) == text:
            return value
        # Redact each string separately, because a match in the serialised text could span several strings.
        return deserialize_value(json.dumps(self._cleaned(json.loads(text))), type(value))

    def _cleaned(self, value: Any) -> Any:
        if isinstance(value, str):
            return redact(value, self._written_secrets)
        if isinstance(value, list):
            return [self._cleaned(item) for item in value]
        if isinstance(value, dict):
            return {key: item if key in IDENTITIES else self._cleaned(item) for key, item in value.items()}
        return value


def mask_dagsters_log(secrets: Sequence[str]) -> None:
    """Mask secrets in the log lines of Dagster's own programs, such as the errors of sensors that its daemon prints.

    Dagster adds its handlers after it has opened its storage, so this function is called again before each tick. A
    second call changes nothing.
    """
    for handler in logging.getLogger("dagster").handlers:
        if not isinstance(handler.formatter, MaskedFormatter):
            handler.setFormatter(MaskedFormatter(handler.formatter, secrets))
