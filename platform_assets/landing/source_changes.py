"""Whether a source file has changed: what its store says of it, and the digest of its bytes."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from platform_assets.landing.source_files import CHUNK_BYTES, plain_errors

if TYPE_CHECKING:
    from platform_assets.landing.source_files import Source

# What fsspec's drivers call it when a file was written, and what tells two of its states apart.
_MARKS = (
    *("mtime", "created", "ino", "etag", "last-modified", "lastmodified", "last_modified", "updated"),
    *("generation", "versionid", "version_id", "content-md5"),
)


def look_at(source: Source) -> str:
    """What its store says of a file, without reading it: other bytes give another answer. Empty if it says too little.

    Raises
    ------
    SourceError
        It is missing or unreachable.
    """
    import fsspec

    with plain_errors(source, "looked at"):
        files, path = fsspec.core.url_to_fs(source.uri)
        # Some keep what they were told before.
        files.invalidate_cache()
        told = {name.lower(): value for name, value in files.info(path).items()}
    marks = {name: str(told[name]) for name in _MARKS if told.get(name) is not None}
    return json.dumps({"size": told.get("size"), **marks}, sort_keys=True) if marks else ""


def digest_of(source: Source) -> str:
    """SHA-256 of a file's bytes as they lie there, packed or not.

    Raises
    ------
    SourceError
        It is missing or unreachable.
    """
    import fsspec

    found = hashlib.sha256()
    with plain_errors(source, "read"), fsspec.open(source.uri, "rb") as stream:
        while chunk := stream.read(CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()
