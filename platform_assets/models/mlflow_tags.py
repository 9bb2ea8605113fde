"""Conversion of a model version's fields to tags of its MLflow version, and back."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import RegistryError
from platform_assets.models.registry import PREFIX, TABLES_TAG, ModelVersion, finite

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

    from platform_assets.models.registry import Registration

FINGERPRINT_TAG = f"{PREFIX}fingerprint"
DIGEST_TAG = f"{PREFIX}digest"
THRESHOLD_TAG = f"{PREFIX}threshold"
NO_THRESHOLD = "none"
"""Value of `THRESHOLD_TAG` for a model that makes no decisions.

A missing tag is an error, because someone may have deleted it.
"""
TABLE_DIGESTS_TAG = f"{PREFIX}table_digests"
METRICS_TAG = f"{PREFIX}metrics"
PARAMETERS_TAG = f"{PREFIX}parameters"


def version_tags(registration: Registration) -> dict[str, str]:
    """Return all tags of a new version: the registration's own tags and its fields."""
    return {
        **registration.tags,
        FINGERPRINT_TAG: registration.fingerprint,
        DIGEST_TAG: registration.digest,
        THRESHOLD_TAG: NO_THRESHOLD if registration.threshold is None else repr(float(registration.threshold)),
        TABLES_TAG: json.dumps(dict(registration.tables)),
        TABLE_DIGESTS_TAG: json.dumps(dict(registration.table_digests)),
        METRICS_TAG: json.dumps(finite(registration.metrics)),
        PARAMETERS_TAG: json.dumps(dict(registration.parameters)),
    }


def read_version(found: MlflowVersion) -> ModelVersion:
    """Return the version that the tags describe.

    Raises
    ------
    RegistryError
        A tag is missing or unreadable.
    """
    tags = dict(found.tags)
    try:
        return ModelVersion(
            name=found.name,
            version=int(found.version),
            digest=tags[DIGEST_TAG],
            fingerprint=tags[FINGERPRINT_TAG],
            threshold=_threshold(found),
            tables=table_versions(found),
            table_digests=_mapping(found, TABLE_DIGESTS_TAG, str),
            metrics=_mapping(found, METRICS_TAG, (int, float)),
            parameters=_mapping(found, PARAMETERS_TAG, object),
            tags={name: value for name, value in tags.items() if not name.startswith(PREFIX)},
            created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            run_id=found.run_id or "",
        )
    except KeyError as error:
        raise _unreadable(found, f"the tag {error.args[0]} is missing") from None


def _threshold(found: MlflowVersion) -> float | None:
    text = found.tags[THRESHOLD_TAG]
    if text == NO_THRESHOLD:
        return None
    try:
        return float(text)
    except ValueError:
        raise _unreadable(found, f"the tag {THRESHOLD_TAG} is {text!r}, not a number") from None


def _mapping(found: MlflowVersion, tag: str, kind: type | tuple[type, ...]) -> dict[str, Any]:
    """Return a tag's JSON object, after checking the types of its values."""
    text = found.tags[tag]
    try:
        values = json.loads(text)
    except ValueError:
        values = None
    if not isinstance(values, dict) or not all(isinstance(value, kind) for value in values.values()):
        raise _unreadable(found, f"the tag {tag} is not a JSON object with values of the expected type")
    return values


def _unreadable(found: MlflowVersion, reason: str) -> RegistryError:
    return RegistryError(
        f"{found.name} version {found.version}: {reason}; restore the tag from the evidence of the version's approval "
        "request, or delete the version in MLflow"
    )


def table_versions(version: MlflowVersion) -> dict[str, int]:
    """Return a mapping from each training table to its version in the lake; empty if the tag is missing.

    Raises
    ------
    RegistryError
        The tag is unreadable.
    """
    tag = version.tags.get(TABLES_TAG, "{}")
    try:
        return {str(table): int(number) for table, number in json.loads(tag).items()}
    except (ValueError, TypeError, AttributeError):
        raise RegistryError(
            f"the tag {TABLES_TAG} of {version.name} version {version.version} is {tag!r}; set it to a JSON "
            "object of table names and version numbers, or remove it"
        ) from None
