"""Bundles: a champion's file and the record of its approval in one folder.

A service can serve a bundle without the platform's database and lake. Opening a bundle verifies that the file is the
approved file and that the approval record matches its hash chain. A completely rewritten chain is not detected, because
only the platform has the original hashes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.hash_chain import Frozen
from platform_assets.approval.requests import State
from platform_assets.base.errors import PlatformError
from platform_assets.models.artefact_store import FOLDER, ArtefactStore
from platform_assets.serving.champion_source import Approved, metrics_of

if TYPE_CHECKING:
    import threading
    from collections.abc import Mapping
    from pathlib import Path

    from platform_assets.approval.ledger import Ledger
    from platform_assets.models.fitted_model import FittedModel

FILE = "bundle.json"
"""Name of the file that describes a bundle."""
FORMAT = 1
"""Version of the bundle's format."""
_EXPORT_AGAIN = "export it again: `platform-assets export MODEL DIR`"


class BundleError(PlatformError):
    """A folder is not a bundle, or was altered after the export."""


@dataclass(frozen=True)
class Bundle:
    """An approved model in a folder.

    Attributes
    ----------
    folder
        Folder with the bundle's files.
    model, version
        Name and number of the registered version.
    digest
        Digest of the model's file.
    threshold
        Score from which a row is positive; None if the model makes no decisions.
    demo
        Whether the model was trained on sample data.
    approved
        Approver, time and reason of each approval, as text.
    frozen
        The approval request and its events, with their hashes.
    """

    folder: Path
    model: str
    version: int
    digest: str
    threshold: float | None
    demo: bool
    approved: tuple[str, ...]
    frozen: Frozen

    @property
    def approval_id(self) -> int:
        """Number of the approval request."""
        return int(self.frozen.request["id"] or 0)

    @property
    def evidence(self) -> Mapping[str, Any]:
        """Evidence of the approval request."""
        evidence: dict[str, Any] = json.loads(self.frozen.request["evidence"] or "{}")
        return evidence

    @property
    def store(self) -> ArtefactStore:
        """Store that holds the model's file."""
        return ArtefactStore(str(self.folder))


class BundledChampion:
    """A `ChampionSource` whose only champion is the model of a bundle.

    Parameters
    ----------
    bundle
        The bundle that contains the model.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def champion(self, model: str) -> Approved | None:
        """Return the bundle's version; None for other models."""
        bundle = self._bundle
        if bundle.model != model:
            return None
        return Approved(
            model=bundle.model,
            version=bundle.version,
            digest=bundle.digest,
            threshold=bundle.threshold,
            approval_id=bundle.approval_id,
            metrics=metrics_of(bundle.evidence),
            demo=bundle.demo,
        )

    def load(self, digest: str) -> FittedModel:
        """Load the model and verify its file.

        Raises
        ------
        ArtefactError
            The file is missing or was altered, or its scores differ from those at training.
        """
        return self._bundle.store.load(digest)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Wait until `stop` is set, for at most `seconds`. A bundle never changes."""
        stop.wait(seconds)

    def close(self) -> None:
        """Do nothing, because no connection is open."""


def export(ledger: Ledger, artefacts: ArtefactStore, model: str, folder: Path) -> Bundle:
    """Write the champion into a folder, replacing an older bundle there.

    Parameters
    ----------
    ledger
        Ledger that records the champion and its approval.
    artefacts
        Store that holds the model's file.
    model
        Name of the model.
    folder
        Folder that is new, empty, or contains a bundle.

    Raises
    ------
    BundleError
        There is no champion, or the folder contains other files.
    ArtefactError
        The model's file is missing or was altered.
    """
    from platform_assets.models.text_estimators import encoders_of

    champion = ledger.champion(model)
    if champion is None:
        raise BundleError(
            f"{model} has no champion to export; train the model, approve its request (`platform-assets decide list` "
            "shows it), and promote it"
        )
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FILE).exists())):
        raise BundleError(f"{folder} contains files that are not part of a bundle; choose a new or empty folder")
    # Load the model before copying its file, to check that it works.
    encoders = encoders_of(artefacts.load(champion.digest).estimator)
    bundle = _described(folder, ledger.frozen(champion.request_id))
    try:
        store = ArtefactStore(str(folder))
        store.add(artefacts.read(champion.digest))
        for digest in encoders:
            store.add_encoder(artefacts.read_encoder(digest))
        partial = folder / f".{FILE}"
        partial.write_text(json.dumps(_as_json(bundle), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(folder / FILE)
        for other in (folder / FOLDER).iterdir():
            if other.stem not in {bundle.digest, *encoders}:
                other.unlink()
    except OSError as error:
        raise BundleError(f"{folder} cannot be written to ({error.strerror}); choose another folder") from None
    return open_bundle(folder)


def open_bundle(folder: Path) -> Bundle:
    """Open the bundle in a folder; verify its record and the digest of its file, without loading the model.

    Raises
    ------
    BundleError
        There is no bundle, or its record was altered.
    ArtefactError
        The model's file is missing or was altered.
    """
    path = folder / FILE
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        found, frozen = written["bundle"], Frozen(written["request"], tuple(written["events"]))
        whole = frozen.intact
    except OSError as error:
        raise BundleError(f"there is no bundle in {folder} ({error.strerror}: {FILE}); {_EXPORT_AGAIN}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{path} does not describe a bundle; {_EXPORT_AGAIN}") from None
    if found != FORMAT:
        raise BundleError(f"{path} has format {found!r}; this release reads format {FORMAT}; {_EXPORT_AGAIN}")
    if not whole:
        raise BundleError(f"the approval record in {path} was altered: its hashes do not match; {_EXPORT_AGAIN}")
    bundle = _described(folder, frozen)
    if _as_json(bundle) != written:
        raise BundleError(f"{path} differs from its approval record; {_EXPORT_AGAIN}")
    bundle.store.read(bundle.digest)
    return bundle


def _described(folder: Path, frozen: Frozen) -> Bundle:
    """Build a bundle from the record of a promoted version."""
    request, events = frozen.request, frozen.events
    try:
        evidence = json.loads(str(request["evidence"]))
        bundle = Bundle(
            folder=folder,
            model=str(request["model"]),
            version=int(str(request["version"])),
            digest=str(request["digest"]),
            threshold=None if request["threshold"] is None else float(str(request["threshold"])),
            demo=evidence["demo"] is True,
            approved=tuple(
                f"approved by {event['actor']} at {event['at']} UTC: {event['reason']}"
                for event in events
                if event["kind"] == "approve"
            ),
            frozen=frozen,
        )
        promoted = events[-1]["state"] == State.PROMOTED
    except (KeyError, ValueError, TypeError, IndexError) as error:
        raise BundleError(f"the approval record in {folder} is incomplete ({error}); {_EXPORT_AGAIN}") from None
    if not promoted:
        raise BundleError(f"{bundle.model} version {bundle.version} in {folder} was not promoted; {_EXPORT_AGAIN}")
    return bundle


def _as_json(bundle: Bundle) -> dict[str, Any]:
    """Return the content of `FILE`, with the most important fields first."""
    return {
        "bundle": FORMAT,
        "model": bundle.model,
        "version": bundle.version,
        "digest": bundle.digest,
        "threshold": bundle.threshold,
        "demo": bundle.demo,
        "approved": list(bundle.approved),
        "request": dict(bundle.frozen.request),
        "events": [dict(event) for event in bundle.frozen.events],
    }
