"""Copy sentence encoders from a configured folder to the artefact store, where each file is named by its digest."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from platform_assets.base.errors import ArtefactError, SourceError
from platform_assets.base.scratch import OwnedFolder
from platform_assets.landing.source_files import Source, fetch
from platform_assets.models.sentence_encoder import (
    MODEL_FILE,
    TOKENIZER_FILE,
    missing_libraries,
    open_encoder,
    pack,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path
    from typing import Any

    from platform_assets.landing.declared_sources import Sources
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.training.model_spec import DeclaredEncoder, ModelSpec


class Encoders:
    """Copies encoders to the artefact store.

    Parameters
    ----------
    sources
        Finds the settings of domains.
    artefacts
        Store of the encoders' files.
    scratch
        Folder for temporary copies.
    """

    def __init__(self, sources: Sources, artefacts: ArtefactStore, scratch: Path) -> None:
        self._sources = sources
        self._artefacts = artefacts
        self._scratch = scratch

    def files(self, declared: DeclaredEncoder) -> list[Source]:
        """Return the encoder's model file and tokenizer file; empty if the encoder's setting is empty."""
        uri: str = getattr(self._sources.settings_of(declared.settings), declared.setting)
        names = (MODEL_FILE, TOKENIZER_FILE)
        return [Source(declared.variable, f"{uri.rstrip('/')}/{name}") for name in names] if uri else []

    def why_not(self, declared: DeclaredEncoder) -> str | None:
        """Return the reason why candidates with the encoder are left out, or None if they are included."""
        if not self.files(declared):
            return f"{declared.variable} is not set"
        if missing := missing_libraries():
            return f"the extra `encoder` is not installed (missing: {', '.join(missing)})"
        return None

    def landed(self, declared: DeclaredEncoder) -> str:
        """Copy the encoder's files into the store, open the encoder, and return its digest.

        Raises
        ------
        SourceError
            A file is missing or unreachable, changed while it was read, or is damaged.
        ArtefactError
            The store cannot be written.
        """
        folder = OwnedFolder(self._scratch, "encoder")
        try:
            model, tokenizer = (
                fetch(source, folder.path / str(at)).read_bytes() for at, source in enumerate(self.files(declared))
            )
        finally:
            folder.remove()
        packed = pack(model, tokenizer)
        digest = self._artefacts.add_encoder(packed)
        self._opened(digest, declared)
        return digest

    def _opened(self, digest: str, declared: DeclaredEncoder) -> None:
        try:
            open_encoder(digest, self._artefacts.read_encoder, f"the sentence encoder in {declared.variable}")
        except ArtefactError as error:
            raise SourceError(str(error)) from None

    def bound(self, spec: ModelSpec, progress: Callable[[str], None]) -> ModelSpec:
        """Return a declaration with the encoders that are configured now.

        Candidates whose encoder is not configured, or whose libraries are missing, are removed.
        """
        digests: dict[str, str] = {}
        for declared in dict.fromkeys(one.encoder for one in spec.candidates if one.encoder):
            if reason := self.why_not(declared):
                progress(f"candidates with a sentence encoder are left out, because {reason}")
            else:
                digests[declared.parameter] = self.landed(declared)
        return with_encoders(spec, digests)

    def bound_again(self, spec: ModelSpec, record: Mapping[str, Any]) -> ModelSpec:
        """Return a declaration with the encoders of an earlier training run, from the record of that run.

        Raises
        ------
        ArtefactError
            An encoder is missing or was altered.
        """
        digests = encoders_in(spec, record["leaderboard"])
        for digest in digests.values():
            open_encoder(digest, self._artefacts.read_encoder, f"the sentence encoder {digest}")
        return with_encoders(spec, digests)


def encoders_in(spec: ModelSpec, leaderboard: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return the encoders' digests from the leaderboard of a training run, with the hyperparameters' names as keys."""
    parameters = {one.encoder.parameter for one in spec.candidates if one.encoder}
    return {name: value for line in leaderboard for name, value in line["parameters"].items() if name in parameters}


def with_encoders(spec: ModelSpec, digests: Mapping[str, str]) -> ModelSpec:
    """Return a declaration in which the grids of the candidates contain the encoders' digests.

    Candidates whose encoder has no digest are removed. Candidates that need no encoder are kept.
    """
    return replace(
        spec,
        candidates=tuple(
            replace(one, grid={**one.grid, one.encoder.parameter: (digests[one.encoder.parameter],)})
            if one.encoder
            else one
            for one in spec.candidates
            if one.encoder is None or one.encoder.parameter in digests
        ),
    )
