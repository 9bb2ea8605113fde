"""Artefacts are written once and atomically, and are read back unchanged."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.tree import DecisionTreeClassifier

from platform_assets.base.errors import ArtefactError
from platform_assets.models.artefact_format import dump
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets_tests.models.small_models import (
    ABSENT,
    a_model,
    fitted,
)
from platform_assets_tests.object_store import SECRET, ObjectStore, running_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as server:
        yield server


@pytest.fixture(params=["folder", "object_store", "azure_store", "google_store"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtefactStore:
    if request.param == "folder":
        return ArtefactStore(str(tmp_path / "lake"))
    server: ObjectStore = request.getfixturevalue(request.param)
    return ArtefactStore(server.lake(), server.options)


@pytest.mark.requirement("PRO-1")
def test_a_model_is_stored_once_under_its_digest(store: ArtefactStore) -> None:
    assert store.digests() == []
    digest = store.save(a_model())
    data = store.read(digest)
    assert hashlib.sha256(data).hexdigest() == digest
    assert store.exists(digest)
    assert not store.exists(ABSENT)
    assert store.size(digest) == len(data)
    other = store.add(dump(fitted(DecisionTreeClassifier(random_state=0))))
    assert store.digests() == sorted([digest, other])
    np.testing.assert_array_equal(store.load(digest).golden_scores, a_model().golden_scores)
    assert store.add(data) == digest
    assert len(store.digests()) == 2


def test_an_artefact_is_one_file_that_is_written_once(local: ArtefactStore, folder: Path) -> None:
    digest = local.save(a_model())
    assert [path.name for path in folder.iterdir()] == [f"{digest}.skops"]
    written = (folder / f"{digest}.skops").stat()
    local.add(local.read(digest))
    again = (folder / f"{digest}.skops").stat()
    assert (again.st_ino, again.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert ArtefactStore(f"file://{folder.parent}").digests() == [digest]


def test_concurrent_writers_of_the_same_bytes_store_one_artefact(store: ArtefactStore) -> None:
    data = dump(a_model())
    together, found, errors = threading.Barrier(6), [], []

    def write() -> None:
        together.wait()
        try:
            found.append(store.add(data))
            store.load(found[-1])
        except Exception as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=write) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert set(found) == set(store.digests()) == {hashlib.sha256(data).hexdigest()}


def test_a_partly_written_file_is_not_listed_as_an_artefact(local: ArtefactStore, folder: Path) -> None:
    data = dump(a_model())
    digest = hashlib.sha256(data).hexdigest()
    folder.mkdir(parents=True)
    (folder / f".{digest}.skops.0123").write_bytes(data[:100])
    assert local.digests() == []
    assert not local.exists(digest)
    assert local.add(data) == digest
    assert local.digests() == [digest]


def test_the_error_for_an_unwritable_folder_names_the_folder(local: ArtefactStore, folder: Path) -> None:
    folder.parent.write_text("a file where the lake should be")
    with pytest.raises(ArtefactError, match=f"was not stored in {folder}"):
        local.save(a_model())


@pytest.mark.parametrize("digest", ["", "../../etc/passwd", ABSENT[1:], ABSENT.upper().replace("0", "A")])
def test_a_malformed_digest_is_refused(local: ArtefactStore, digest: str) -> None:
    for ask in (local.load, local.read, local.exists, local.size):
        with pytest.raises(ArtefactError, match="is not the digest of a model"):
            ask(digest)


@pytest.mark.requirement("PLT-8")
def test_errors_of_the_object_store_show_no_secrets(object_store: ObjectStore) -> None:
    nowhere = ArtefactStore("s3://never-made/lake", object_store.options)
    with pytest.raises(ArtefactError, match="cannot be looked up in s3://never-made/lake/models: .*NoSuchB") as caught:
        nowhere.save(a_model())
    assert SECRET not in str(caught.value)
    lake = object_store.lake()
    with (
        running_object_store(behind=object_store.endpoint, refused=".skops") as bad_line,
        pytest.raises(ArtefactError, match=f"was not stored in {lake}/models: .*AccessDenied"),
    ):
        ArtefactStore(lake, bad_line.options).save(a_model())
    assert ArtefactStore(lake, object_store.options).digests() == []


def test_the_error_for_a_missing_artefact_names_its_file(store: ArtefactStore) -> None:
    for ask in (store.load, store.read, store.size):
        with pytest.raises(ArtefactError, match=f"{ABSENT}.skops in .*/models is missing; .*train the model again"):
            ask(ABSENT)


@pytest.mark.requirement("PRO-1")
@pytest.mark.parametrize("change", ["one byte", "cut off", "emptied", "longer"])
def test_an_altered_artefact_is_refused(local: ArtefactStore, folder: Path, change: str) -> None:
    digest = local.save(a_model())
    path = folder / f"{digest}.skops"
    data = bytearray(path.read_bytes())
    middle = len(data) // 2
    data[middle] ^= 1
    changed = {"one byte": bytes(data), "cut off": bytes(data[:middle]), "emptied": b"", "longer": bytes(data) + b"\0"}[
        change
    ]
    path.write_bytes(changed)
    with pytest.raises(ArtefactError, match=f"{digest}.skops in {folder} was altered: .*train the model again"):
        local.load(digest)
