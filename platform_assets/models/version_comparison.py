"""Comparison of a registered version and its artefact with the evidence of its approval request."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError
from platform_assets.base.json_values import as_json
from platform_assets.models.artefact_store import is_digest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.registry import ModelVersion

_SHOWN = 60
"""Maximum number of characters of a value in a message; longer values are cut off."""


def artefact_problem(artefacts: ArtefactStore, digest: str) -> str | None:
    """Compare an artefact's file with its digest. Return the problem as text, or None if they match.

    The function reads the whole file, but does not load the model.

    Raises
    ------
    ArtefactError
        The artefact store does not respond.
    """
    # Call `exists` first, because it raises an error if the store does not respond. The code below would report that
    # error as a problem with the file.
    if is_digest(digest):
        artefacts.exists(digest)
    try:
        artefacts.read(digest)
    except ArtefactError as error:
        return str(error)
    return None


def differences(version: ModelVersion, digest: str, threshold: float | None, evidence: Mapping[str, Any]) -> list[str]:
    """Return the differences between a registered version and the evidence of its approval request, as sentences.

    Parameters
    ----------
    version
        Version in the registry.
    digest, threshold
        Digest of the artefact, and threshold. Both come from the approval request.
    evidence
        Evidence of the request, from `Evidence.as_json`. Keys that it does not contain are not compared, because
        older releases recorded fewer keys. Tags that only the version has are not compared, because promotion adds
        tags.
    """
    found: dict[str, Any] = {
        "digest": version.digest,
        "threshold": version.threshold,
        "tables": version.tables,
        "table_digests": version.table_digests,
        "metrics": version.metrics,
        "parameters": version.parameters,
    }
    registered = evidence.get("registered") or {}
    frozen: dict[str, Any] = {"digest": digest, "threshold": threshold} | {
        name: source[name]
        for source in (evidence, registered)
        for name in found
        # Take the metrics from `registered` only. The metrics in `evidence` itself include intervals, but the
        # version's metrics do not.
        if name in source and (name != "metrics" or source is registered)
    }
    tags = registered.get("tags") or {}
    return [
        f"{version.name} version {version.version}: {difference}"
        for difference in (
            *_unequal(as_json({name: found[name] for name in frozen}), frozen, ""),
            *_unequal({name: version.tags[name] for name in tags if name in version.tags}, tags, "tag "),
            *_other_fingerprint(version, evidence),
        )
    ]


def _unequal(found: Mapping[str, Any], frozen: Mapping[str, Any], prefix: str) -> Iterator[str]:
    for name, expected in frozen.items():
        value = found.get(name)
        if isinstance(expected, dict) and isinstance(value, dict):
            for key in sorted({*expected, *value}):
                if value.get(key) != expected.get(key):
                    yield _told(f"{prefix}{name}.{key}", value.get(key), expected.get(key))
        elif value != expected:
            yield _told(f"{prefix}{name}", value, expected)


def _other_fingerprint(version: ModelVersion, evidence: Mapping[str, Any]) -> Iterator[str]:
    expected = evidence.get("fingerprint")
    # A version that was restored from evidence can have the fingerprint `<fingerprint>:<digest>`.
    if expected and version.fingerprint not in (expected, f"{expected}:{version.digest}"):
        yield _told("fingerprint", version.fingerprint, expected)


def _told(name: str, value: object, expected: object) -> str:
    return f"the registry has {name} {_quoted(value)}, but the approval request recorded {_quoted(expected)}"


def _quoted(value: object) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}.."
