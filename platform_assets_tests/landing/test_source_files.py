"""A source file may be in a folder, on a server or in an object store; what cannot be fetched is told."""

from __future__ import annotations

import bz2
import gzip
import hashlib
from typing import TYPE_CHECKING

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.base.errors import SourceError
from platform_assets.database.embedded.server import free_port
from platform_assets.landing.landed_rows import land
from platform_assets.landing.source_changes import digest_of, look_at
from platform_assets.landing.source_files import Source
from platform_assets_tests.landing.sales_files import (
    CONTENT,
    PASSWORD,
    SETTING,
    good,
    landed,
    refused,
    serving_files,
)
from platform_assets_tests.object_store import SECRET, ObjectStore, running_object_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine


@pytest.mark.requirement("CRE-2", "PLT-4")
def test_a_file_may_be_anywhere_and_packed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "sales.csv").write_bytes(CONTENT)
    (tmp_path / "sales [1]*.csv.gz").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "sales.csv.bz2").write_bytes(bz2.compress(CONTENT))
    with fsspec.open("memory://shop/sales.csv.gz", "wb") as file:
        file.write(gzip.compress(CONTENT))
    with serving_files() as server:
        for uri in (
            str(tmp_path / "sales.csv"),
            str(tmp_path / "sales [1]*.csv.gz"),
            str(tmp_path / "sales.csv.bz2"),
            f"file://{tmp_path}/sales.csv",
            "memory://shop/sales.csv.gz",
            f"{server}/sales.csv",
            f"{server}/sales.csv?token={PASSWORD}",
        ):
            with land(Source(SETTING, uri), engine) as landed_file:
                assert landed_file.rows.to_pyarrow().to_pylist() == [good(2, "1", "2")], uri
                assert landed_file.digest == hashlib.sha256(CONTENT).hexdigest(), uri


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as store:
        yield store


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A new bucket that `s3://` finds by the variables of the object store alone."""
    for name, value in object_store.options.items():
        monkeypatch.setenv(name, value)
    # Drivers are kept, with the variables that they were made from.
    driver = fsspec.get_filesystem_class("s3")
    driver.clear_instance_cache()
    yield object_store.lake()
    driver.clear_instance_cache()


@pytest.mark.requirement("CRE-2", "PLT-4")
def test_a_file_may_be_in_an_object_store(engine: Engine, bucket: str) -> None:
    with fsspec.open(f"{bucket}/sales.csv.gz", "wb") as file:
        file.write(gzip.compress(CONTENT))
    with fsspec.open(f"{bucket}/sales.parquet", "wb") as file:
        pq.write_table(pa.table({"a": [1], "b": [2]}), file)
    assert landed(engine, f"{bucket}/sales.csv.gz") == [good(2, "1", "2")]
    assert landed(engine, f"{bucket}/sales.parquet") == [good(1, 1, 2)]  # type: ignore[arg-type]


@pytest.mark.requirement("PLT-2")
def test_a_file_looks_different_once_it_was_written_anew(bucket: str) -> None:
    for uri in (f"{bucket}/sales.csv.gz", "memory://looks/sales.csv.gz"):
        source, looks = Source(SETTING, uri), [""]
        for content in (b"first", b"other"):
            # Drivers keep what they listed.
            fsspec.filesystem(uri.split(":")[0]).find(uri.rsplit("/", 1)[0], detail=True)
            with fsspec.open(uri, "wb") as file:
                file.write(content)
            looks.append(look_at(source))
            assert look_at(source) == looks[-1]
            # As it lies there, whatever its name says.
            assert digest_of(source) == hashlib.sha256(content).hexdigest()
        assert len(set(looks)) == 3, uri
    with pytest.raises(SourceError, match=f"none .{SETTING}. cannot be looked at: FileNotFoundError"):
        look_at(Source(SETTING, f"{bucket}/none"))


@pytest.mark.requirement("PLT-2")
def test_a_store_that_says_too_little_has_nothing_to_look_at() -> None:
    with serving_files() as server:
        source = Source(SETTING, f"{server}/sales.csv")
        assert look_at(source) == ""
        assert digest_of(source) == hashlib.sha256(CONTENT).hexdigest()
        with pytest.raises(SourceError, match="cannot be read: "):
            digest_of(Source(SETTING, f"{server}/cut.csv"))


@pytest.mark.requirement("PLT-8", "CRE-2")
def test_what_an_object_store_does_not_have_is_told_without_secrets(
    engine: Engine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = {f"{bucket}/none.csv": "FileNotFoundError: ", "s3://nowhere/none.csv": "NoSuchBucket: "}
    for uri, reason in refusals.items():
        message = refused(engine, uri)
        assert message.startswith(f"<uri> ({SETTING}) cannot be fetched: {reason}")
        assert SECRET not in message
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    endpoint = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    # The driver's own patience is five attempts, about six seconds.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    message = refused(engine, f"{bucket}/sales.csv")
    assert message.startswith(f"<uri> ({SETTING}) cannot be fetched: EndpointConnectionError: ")
    assert endpoint in message
    assert SECRET not in message


def test_missing_files_and_folders_are_told(engine: Engine, tmp_path: Path) -> None:
    point = f"point {SETTING} at the file that is meant"
    assert refused(engine, tmp_path / "none.csv") == f"<uri> ({SETTING}) does not exist; {point}"
    assert refused(engine, tmp_path) == f"<uri> ({SETTING}) is a folder; {point}"
    assert refused(engine, tmp_path / "none.csv.gz") == f"<uri> ({SETTING}) does not exist; {point}"


def test_a_damaged_archive_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress(CONTENT * 1_000)[:-20])
    assert refused(engine, path).startswith(f"<uri> ({SETTING}) cannot be fetched: EOFError: ")
    path.write_bytes(CONTENT)
    assert refused(engine, path).startswith(f"<uri> ({SETTING}) cannot be fetched: BadGzipFile: ")


@pytest.mark.requirement("PLT-8", "CRE-2")
def test_what_cannot_be_fetched_is_told_without_passwords(engine: Engine) -> None:
    with serving_files() as server:
        refusals = {
            f"teleport://anna:{PASSWORD}@host/x.csv": "ValueError: Protocol not known: teleport",
            f"ftp://anna:{PASSWORD}@127.0.0.1:{free_port()}/x.csv": "ConnectionRefusedError: ",
            f"http://anna:{PASSWORD}@127.0.0.1:{free_port()}/x.csv": "ConnectionRefusedError: ",
            f"{server}/none.csv?token={PASSWORD}": "ClientResponseError: 404",
            f"{server}/cut.csv?token={PASSWORD}": "Not enough data to satisfy content length header",
            "memory://none.csv": "FileNotFoundError: ",
            f"gs://anna:{PASSWORD}@bucket/x.csv": "needs a driver that is not installed: Please install gcsfs",
        }
        for uri, reason in refusals.items():
            message = refused(engine, uri)
            assert reason in message
            assert SETTING in message


def test_a_source_says_whether_it_is_demo_data() -> None:
    assert str(Source(SETTING, f"ftp://anna:{PASSWORD}@host/x.csv")) == f"ftp://host/x.csv ({SETTING})"
    signed = f"https://host/x.csv?sv=2022&sig={PASSWORD}%3D"
    assert str(Source(SETTING, signed)) == f"https://host/x.csv ({SETTING})"
    assert str(Source(SETTING, "/data/x.csv", demo=True)) == "/data/x.csv (demo data)"
