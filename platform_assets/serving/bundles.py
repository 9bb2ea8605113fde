"""A champion in a folder of its own: its file, and the record of who approved it.

For a service that runs without the platform's database and lake. Who opens a bundle proves that the file is the one
that was approved, and the approval as the ledger's chain of hashes froze it; `artefact_store.py` loads it, here as
everywhere. That nobody wrote a whole new chain, only the ledger itself can tell: its `audit` knows the hashes.
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
FORMAT = 1
_EXPORT_AGAIN = "export it again: `platform-assets export MODEL DIR`"


class BundleError(PlatformError):
    """A folder is no bundle, or not the one that was exported."""


@dataclass(frozen=True)
class Bundle:
    """An approved model, away from the platform.

    Attributes
    ----------
    folder
        Where it is.
    model, version, digest, threshold
        The registered version, its file, and the score from which a row counts as positive.
    demo
        Whether it was trained on sample data.
    approved
        Who approved it, when and why, in sentences.
    frozen
        The request and its events.
    """

    folder: Path
    model: str
    version: int
    digest: str
    threshold: float
    demo: bool
    approved: tuple[str, ...]
    frozen: Frozen

    @property
    def approval_id(self) -> int:
        """The request's number in the ledger."""
        return int(self.frozen.request["id"] or 0)

    @property
    def evidence(self) -> Mapping[str, Any]:
        """What whoever approved it saw."""
        evidence: dict[str, Any] = json.loads(self.frozen.request["evidence"] or "{}")
        return evidence

    @property
    def store(self) -> ArtefactStore:
        """Where its file is."""
        return ArtefactStore(str(self.folder))


class BundledChampion:
    """A bundle's model as the only champion there is, and for ever; see `champion_source.ChampionSource`.

    Parameters
    ----------
    bundle
        The bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self._bundle = bundle

    def champion(self, model: str) -> Approved | None:
        """The bundle's version; None for other models."""
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
        """The model, after its file has proved to be the approved one.

        Raises
        ------
        ArtefactError
            It is missing, was altered, or does not score as it did.
        """
        return self._bundle.store.load(digest)

    def wait(self, stop: threading.Event, seconds: float) -> None:
        """Nothing changes; return after some seconds, or once `stop` is set."""
        stop.wait(seconds)

    def close(self) -> None:
        """Nothing is open."""


def export(ledger: Ledger, artefacts: ArtefactStore, model: str, folder: Path) -> Bundle:
    """Write the champion into a folder; a bundle that is there is replaced.

    Parameters
    ----------
    ledger
        Says which version is the champion, and who approved it.
    artefacts
        Has its file.
    model
        Its name.
    folder
        New, empty, or with a bundle.

    Raises
    ------
    BundleError
        There is no champion, or the folder holds something else.
    ArtefactError
        Its file is missing or was altered.
    """
    champion = ledger.champion(model)
    if champion is None:
        raise BundleError(
            f"{model} has no champion to export; train it, let a person approve it, and promote it "
            "(`platform-assets decide list`)"
        )
    if folder.exists() and (not folder.is_dir() or (any(folder.iterdir()) and not (folder / FILE).exists())):
        raise BundleError(f"{folder} holds something else than a bundle; name a folder that is new or empty")
    # Loaded and not only copied: what does not work is not shipped.
    artefacts.load(champion.digest)
    bundle = _described(folder, ledger.frozen(champion.request_id))
    try:
        ArtefactStore(str(folder)).add(artefacts.read(champion.digest))
        partial = folder / f".{FILE}"
        partial.write_text(json.dumps(_as_json(bundle), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        partial.replace(folder / FILE)
        for other in (folder / FOLDER).iterdir():
            if other.stem != bundle.digest:
                other.unlink()
    except OSError as error:
        raise BundleError(f"{folder} cannot be written ({error.strerror})") from None
    return open_bundle(folder)


def open_bundle(folder: Path) -> Bundle:
    """The bundle in a folder, after its record and its file have proved to be what was approved.

    The file is not opened yet; whoever loads it sees whether it still scores as it did.

    Raises
    ------
    BundleError
        There is none, or its record was altered.
    ArtefactError
        Its file is missing or was altered.
    """
    path = folder / FILE
    try:
        written = json.loads(path.read_text(encoding="utf-8"))
        found, frozen = written["bundle"], Frozen(written["request"], tuple(written["events"]))
        whole = frozen.intact
    except OSError as error:
        raise BundleError(f"there is no bundle in {folder} ({error.strerror}: {FILE}); {_EXPORT_AGAIN}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise BundleError(f"{path} is no description of a bundle; {_EXPORT_AGAIN}") from None
    if found != FORMAT:
        raise BundleError(f"{path} is a bundle of form {found!r}, and this code reads form {FORMAT}; {_EXPORT_AGAIN}")
    if not whole:
        raise BundleError(
            f"the record of the approval in {path} was altered: its hashes are not those of its texts; {_EXPORT_AGAIN}"
        )
    bundle = _described(folder, frozen)
    if _as_json(bundle) != written:
        raise BundleError(f"{path} does not say what the record of its approval says; {_EXPORT_AGAIN}")
    bundle.store.read(bundle.digest)
    return bundle


def _described(folder: Path, frozen: Frozen) -> Bundle:
    """What a frozen record says; only of a version that was promoted."""
    request, events = frozen.request, frozen.events
    try:
        evidence = json.loads(str(request["evidence"]))
        bundle = Bundle(
            folder=folder,
            model=str(request["model"]),
            version=int(str(request["version"])),
            digest=str(request["digest"]),
            threshold=float(str(request["threshold"])),
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
        raise BundleError(f"the record of the approval in {folder} lacks {error}; {_EXPORT_AGAIN}") from None
    if not promoted:
        raise BundleError(f"{bundle.model} version {bundle.version} in {folder} was not promoted; {_EXPORT_AGAIN}")
    return bundle


def _as_json(bundle: Bundle) -> dict[str, Any]:
    """What stands in the file; first what people want to know of it."""
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
