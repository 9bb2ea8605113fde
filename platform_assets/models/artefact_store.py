"""Store of artefacts: immutable files, named by their SHA-256 digest.

`artefact_format.py` defines a file's content. The registry (`registry.py`) maps model names and versions to digests.
"""

from __future__ import annotations

import hashlib
import os
import re
import uuid
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from platform_assets.base.errors import ArtefactError
from platform_assets.base.logs import redact, shown
from platform_assets.engine.query_engine import is_full
from platform_assets.models.artefact_format import dump
from platform_assets.models.artefact_loader import TRAIN_AGAIN, open_artefact

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from datetime import datetime

    import pyarrow.fs as pafs

    from platform_assets.models.fitted_model import FittedModel

FOLDER = "models"
"""Folder of the artefacts in the lake."""
_SUFFIX = ".skops"
_ENCODER = ".encoder"
_DIGEST = re.compile("[0-9a-f]{64}")
_TELLING = re.compile(r"secret|key|token|password|credential|sas", re.IGNORECASE)
# Retry an unreachable object store for 20 s, as for tables, instead of delta-rs' default of 3 minutes.
_PATIENCE = {"retry_timeout": "20s", "connect_timeout": "5s"}
_LONGEST_REASON = 500
_SHOWN = 80
_LONGEST_NOTE = 100_000
# Maximum upload attempts. On Azure, only one of several concurrent uploads of the same file succeeds per attempt, so
# ten attempts allow ten concurrent uploads.
_ATTEMPTS = 10


def is_digest(text: str) -> bool:
    """Return whether a text has the form of an artefact's digest."""
    return _DIGEST.fullmatch(text) is not None


class ArtefactStore:
    """The artefacts below one location, `models/<sha256>.skops`, and the sentence encoders that they use.

    The files of an encoder are packed into one file, `models/<sha256>.encoder`; see `sentence_encoder.py`.

    Parameters
    ----------
    uri
        The lake's location: a folder or the URI of an object store.
    storage_options
        Options of the object store, in addition to its usual environment variables.
    """

    def __init__(self, uri: str, storage_options: Mapping[str, str] | None = None) -> None:
        path = uri.removeprefix("file://")
        self._is_remote = "://" in path
        self._root = f"{path.rstrip('/') if self._is_remote else Path(path).absolute()}/{FOLDER}"
        self._options = (_PATIENCE if self._is_remote else {}) | dict(storage_options or {})

    def save(self, model: FittedModel) -> str:
        """Store a model and return its digest.

        Raises
        ------
        ArtefactError
            The model could not be loaded again, or the store cannot be written.
        """
        data = dump(model)
        open_artefact(data, "the fitted model cannot be stored: it", self.read_encoder)
        return self.add(data)

    def load(self, digest: str) -> FittedModel:
        """Load a model, after a check of its digest.

        Raises
        ------
        ArtefactError
            The artefact or its encoder is missing or was altered, or `open_artefact` refuses it.
        """
        return open_artefact(self.read(digest), self._called(digest), self.read_encoder)

    def add(self, data: bytes) -> str:
        """Store an artefact's bytes atomically and return their digest.

        Raises
        ------
        ArtefactError
            The store cannot be written.
        """
        digest = hashlib.sha256(data).hexdigest()
        if not self.exists(digest):
            self._write(digest + _SUFFIX, data)
        return digest

    def add_encoder(self, packed: bytes) -> str:
        """Store the files of a sentence encoder, packed by `sentence_encoder.pack`, and return their digest.

        A stored file that was altered is replaced.

        Raises
        ------
        ArtefactError
            The store cannot be written.
        """
        digest = hashlib.sha256(packed).hexdigest()
        try:
            self.read_encoder(digest)
        except ArtefactError:
            self._write(digest + _ENCODER, packed)
        return digest

    def read(self, digest: str) -> bytes:
        """Return an artefact's bytes, after a check of their digest.

        Raises
        ------
        ArtefactError
            The artefact is missing or was altered, or the store does not respond.
        """
        return self._read(digest, _SUFFIX)

    def read_encoder(self, digest: str) -> bytes:
        """Return the packed files of a sentence encoder, after a check of their digest.

        Raises
        ------
        ArtefactError
            The file is missing or was altered, or the store does not respond.
        """
        return self._read(digest, _ENCODER)

    def exists(self, digest: str) -> bool:
        """Return whether an artefact is stored.

        Raises
        ------
        ArtefactError
            The digest is malformed, or the store does not respond.
        """
        return bool(self._info(digest, _SUFFIX).is_file)

    def size(self, digest: str) -> int:
        """Return an artefact's size in bytes.

        Raises
        ------
        ArtefactError
            The artefact is missing, or the store does not respond.
        """
        return int(self._require(digest, _SUFFIX).size)

    def digests(self) -> list[str]:
        """Return the sorted digests of all artefacts.

        Raises
        ------
        ArtefactError
            The store does not respond.
        """
        import pyarrow.fs as pafs

        with self._plain_errors("the models cannot be listed"):
            found = self._files.get_file_info(pafs.FileSelector("", allow_not_found=True))
        names = (info.base_name.removesuffix(_SUFFIX) for info in found if info.base_name.endswith(_SUFFIX))
        return sorted(name for name in names if _DIGEST.fullmatch(name))

    def remove_unnamed(self, named: Collection[str], before: datetime) -> int:
        """Remove unfinished files, and models and encoders not in `named`; return the number of removed files.

        Parameters
        ----------
        named
            Digests of the models and encoders to keep.
        before
            Files written at or after this time are kept too, because training stores a model before registering it.

        Raises
        ------
        ArtefactError
            The store does not respond.
        """
        import pyarrow.fs as pafs

        with self._plain_errors("unreferenced models cannot be removed"):
            found = self._files.get_file_info(pafs.FileSelector("", allow_not_found=True))
            old = [info for info in found if info.is_file and info.mtime and info.mtime < before]
            removed = [info.path for info in old if _is_unnamed(info.base_name, named)]
            for path in removed:
                self._files.delete_file(path)
        return len(removed)

    def write_note(self, name: str, data: bytes) -> None:
        """Write a small file next to the models atomically, replacing an existing one.

        Raises
        ------
        ArtefactError
            The store cannot be written.
        """
        self._write(name, data)

    def read_note(self, name: str) -> bytes | None:
        """Return the content of a small file next to the models, truncated to 100,000 bytes; None if it is missing.

        Raises
        ------
        ArtefactError
            The store cannot be read.
        """
        with self._plain_errors(f"{name} cannot be read"):
            if not self._is_remote:
                path = Path(self._root) / name
                if not path.exists():
                    return None
                with path.open("rb") as local:
                    return local.read(_LONGEST_NOTE)
            if not self._files.get_file_info(name).is_file:
                return None
            with self._files.open_input_file(name) as file:
                data: bytes = file.read(_LONGEST_NOTE)
        return data

    @cached_property
    def _files(self) -> pafs.FileSystem:
        import pyarrow.fs as pafs

        if not self._is_remote:
            return pafs.SubTreeFileSystem(self._root, pafs.LocalFileSystem())
        from deltalake.fs import DeltaStorageHandler

        return pafs.PyFileSystem(DeltaStorageHandler(self._root, self._options))

    def _write(self, name: str, data: bytes) -> None:
        with self._plain_errors(f"{name} was not stored"):
            if self._is_remote:
                self._put(name, data)
            else:
                _write(Path(self._root) / name, data)

    def _read(self, digest: str, suffix: str) -> bytes:
        self._require(digest, suffix)
        with self._plain_errors(f"{digest} cannot be read"), self._files.open_input_file(digest + suffix) as file:
            data: bytes = file.read()
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise ArtefactError(
                f"{self._called(digest, suffix)} was altered: the digest of its {len(data)} bytes is {found}; restore "
                f"the file from a copy, or {TRAIN_AGAIN}"
            )
        return data

    def _info(self, digest: str, suffix: str) -> pafs.FileInfo:
        if not is_digest(digest):
            raise ArtefactError(
                f"{digest[:_SHOWN]!r} is not the digest of a model; it must be 64 lower-case hexadecimal digits"
            )
        with self._plain_errors(f"{digest} cannot be looked up"):
            return self._files.get_file_info(digest + suffix)

    def _require(self, digest: str, suffix: str) -> pafs.FileInfo:
        info = self._info(digest, suffix)
        if not info.is_file:
            raise ArtefactError(
                f"{self._called(digest, suffix)} is missing; restore the file from a copy, or {TRAIN_AGAIN}"
            )
        return info

    def _called(self, digest: str, suffix: str = _SUFFIX) -> str:
        kind = "model" if suffix == _SUFFIX else "sentence encoder's"
        return f"the {kind} file {digest}{suffix} in {shown(self._root)}"

    def _put(self, name: str, data: bytes) -> None:
        from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_random_exponential

        attempts = Retrying(
            stop=stop_after_attempt(_ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.1, max=2),
            retry=retry_if_exception(_lost_its_blocks),
            reraise=True,
        )
        attempts(self._put_once, name, data)

    def _put_once(self, name: str, data: bytes) -> None:
        # Buffer the whole file. Otherwise, Arrow passes on data in another type than `bytes`, which delta-rs refuses.
        with self._files.open_output_stream(name, buffer_size=len(data) + 1) as stream:
            stream.write(data)
        # Check the size, because the buffered file is only sent on closing, and Arrow ignores errors then.
        found = self._files.get_file_info(name).size
        if found != len(data):
            raise OSError(f"the store refused or truncated the file: {found or 0} of {len(data)} bytes are stored")

    @contextmanager
    def _plain_errors(self, outcome: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            where = shown(self._root)
            if is_full(error):
                raise ArtefactError(f"{outcome}: no space left on {where}; free some space and run again") from None
            secrets = [value for key, value in self._options.items() if _TELLING.search(key)]
            plain = redact(shown(re.sub(r"\x1b\[[0-9;]*m", "", str(error))), secrets)
            reason = " ".join(plain.replace("↳", " ").split())[:_LONGEST_REASON]
            raise ArtefactError(f"{outcome} in {where}: {reason}") from None


def _lost_its_blocks(error: BaseException) -> bool:
    # Azure drops the blocks of unfinished uploads of a file when another upload of the same file is finished:
    # https://learn.microsoft.com/rest/api/storageservices/put-block-list
    return "InvalidBlockList" in str(error)


def _is_unnamed(name: str, named: Collection[str]) -> bool:
    digest, _, suffix = name.lstrip(".").partition(".")
    if not _DIGEST.fullmatch(digest):
        return False
    # Names that begin with a dot belong to unfinished files of killed processes.
    return name.startswith(".") or (f".{suffix}" in {_SUFFIX, _ENCODER} and digest not in named)


def _write(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            # Flush the content to disk before the file is renamed, so that a power loss leaves no empty file.
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
