"""Source files are fetched from folders, web servers and object stores; incomplete or changing files are refused."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import sys
from email.utils import formatdate
from importlib import import_module
from typing import TYPE_CHECKING

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from platform_assets.base.errors import SourceError
from platform_assets.landing import source_files
from platform_assets.landing.file_remarks import NO_FINAL_LINE_BREAK
from platform_assets.landing.landed_rows import land
from platform_assets.landing.source_files import Source, fetch, look_at, trouble_with
from platform_assets_tests.landing.sales_files import CONTENT, PASSWORD, SETTING, good, landed, refused
from platform_assets_tests.landing.web_server import Page, running_web_server
from platform_assets_tests.object_store import SECRET, ObjectStore, running_object_store
from platform_assets_tests.ports import reserve_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine
    from platform_assets_tests.landing.web_server import Server


OLD = "Sat, 29 Feb 2020 12:00:00 GMT"


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with running_web_server() as server:
        yield server


def fetched(uri: str | Path, folder: Path) -> bytes:
    return fetch(Source(SETTING, str(uri)), folder / "copy").read_bytes()


def refusal(uri: str | Path, folder: Path) -> str:
    with pytest.raises(SourceError) as caught:
        fetch(Source(SETTING, str(uri)), folder / "copy")
    assert caught.value.__suppress_context__ or "://" not in str(uri)
    assert PASSWORD not in str(caught.value)
    return str(caught.value).replace(str(uri), "<uri>")


@pytest.mark.requirement("CRE-2", "PLT-4")
def test_plain_and_packed_files_are_landed_from_a_path_a_memory_uri_or_an_http_uri(
    engine: Engine, tmp_path: Path, server: Server
) -> None:
    (tmp_path / "sales.csv").write_bytes(CONTENT)
    (tmp_path / "sales [1]*.csv.gz").write_bytes(gzip.compress(CONTENT))
    (tmp_path / "sales.csv.bz2").write_bytes(bz2.compress(CONTENT))
    server.pages["/sales.csv"] = Page(CONTENT)
    with fsspec.open("memory://shop/sales.csv.gz", "wb") as file:
        file.write(gzip.compress(CONTENT))
    for uri in (
        str(tmp_path / "sales.csv"),
        str(tmp_path / "sales [1]*.csv.gz"),
        str(tmp_path / "sales.csv.bz2"),
        f"file://{tmp_path}/sales.csv",
        "memory://shop/sales.csv.gz",
        f"{server.url}/sales.csv",
        f"{server.url}/sales.csv?token={PASSWORD}",
    ):
        with land(Source(SETTING, uri), engine) as landed_file:
            assert landed_file.rows.to_pyarrow().to_pylist() == [good(2, "1", "2")], uri
            assert landed_file.digest == hashlib.sha256(CONTENT).hexdigest(), uri


@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize(
    "name", ["sales.csv", "sales.csv.gz", "sales.parquet", "a::b.csv", "#1?.csv", "%20", "a\tb\\c"]
)
def test_compression_of_a_local_file_is_detected_from_its_first_bytes_not_its_name(tmp_path: Path, name: str) -> None:
    (tmp_path / "a").write_bytes(b"the wrong file")
    for compress in (bytes, gzip.compress, bz2.compress, lzma.compress):
        (tmp_path / name).write_bytes(compress(CONTENT))
        assert fetched(tmp_path / name, tmp_path) == CONTENT
        assert trouble_with(Source(SETTING, str(tmp_path / name))) is None


def test_a_relative_path_with_two_colons_is_read_as_a_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a").write_bytes(b"the wrong file")
    (tmp_path / "a::b.csv").write_bytes(CONTENT)
    monkeypatch.chdir(tmp_path)
    assert fetched("a::b.csv", tmp_path) == CONTENT


@pytest.mark.requirement("PLT-12")
def test_a_web_file_is_fetched_with_one_get_request_without_a_range(server: Server, tmp_path: Path) -> None:
    content = os.urandom(12 << 20)
    for number, page in enumerate((Page(content), Page(content, head={"Content-Length": "7"}))):
        server.pages[f"/big{number}"] = page
        assert fetched(f"{server.url}/big{number}", tmp_path) == content
        assert [one for one in server.requests if one[0] == "GET" and one[1] == f"/big{number}"] == [
            ("GET", f"/big{number}", None)
        ]


@pytest.mark.requirement("PLT-12")
@pytest.mark.parametrize(
    "page",
    [
        Page(gzip.compress(CONTENT), {"Content-Encoding": "gzip"}),
        Page(gzip.compress(gzip.compress(CONTENT)), {"Content-Encoding": "x-gzip"}),
        Page(CONTENT, {"Content-Encoding": "gzip"}),
        Page(gzip.compress(CONTENT)),
        Page(CONTENT, {"ETag": '"1"', "Last-Modified": "a"}, head={"ETag": 'W/"1"', "Last-Modified": "b"}),
        Page(CONTENT, {"Last-Modified": "then"}, head={"ETag": '"1"'}),
        Page(CONTENT, promised=None, head={"Content-Length": str(len(CONTENT))}),
        Page(gzip.compress(CONTENT), promised=None),
        Page(CONTENT, {"Transfer-Encoding": "chunked"}, promised=None),
    ],
)
def test_compression_of_a_web_file_is_detected_from_its_first_bytes_not_its_headers(
    server: Server, tmp_path: Path, page: Page
) -> None:
    server.pages["/loans.csv.gz"] = page
    assert fetched(f"{server.url}/loans.csv.gz?sig={PASSWORD}", tmp_path) == CONTENT


@pytest.mark.requirement("PLT-12", "PLT-8")
@pytest.mark.parametrize(
    ("page", "reason"),
    [
        (Page(CONTENT, {"ETag": '"1"'}, head={"ETag": '"2"'}), "the file was replaced during the download"),
        (Page(CONTENT, {"Last-Modified": "a"}, head={"Last-Modified": "b"}), "the file was replaced during"),
        (
            Page(CONTENT, {"Content-Range": "bytes 4-11/12"}, 206),
            "the server returned HTTP 206 Partial Content",
        ),
        (Page(CONTENT, status=503), "the server returned HTTP 503 Service Unavailable instead of 200"),
        (Page(CONTENT, {"Content-Encoding": "br"}), "the server sent the unsupported Content-Encoding br"),
        (Page(CONTENT, promised=10), "IncompleteRead(8 bytes read, 10 more expected)"),
        (
            Page(CONTENT, promised=None),
            "so the 8 bytes received may be incomplete; configure it to send Content-Length",
        ),
        (Page(CONTENT, {"Content-Length": "many"}, promised=None), "so the 8 bytes received may be incomplete"),
        (Page(CONTENT, promised=None, head={"Content-Length": "9"}), "so the 8 bytes received may be incomplete"),
        (Page(gzip.compress(CONTENT)[:-9], promised=None), "is truncated: its gzip data end too early"),
    ],
)
def test_an_unusable_web_response_is_refused_with_the_reason(
    server: Server, tmp_path: Path, page: Page, reason: str
) -> None:
    server.pages["/odd.csv"] = page
    uri = f"{server.url}/odd.csv?token={PASSWORD}"
    told = refusal(uri, tmp_path)
    assert told.startswith(f"{server.url}/odd.csv ({SETTING}) ")
    assert reason in told


@pytest.mark.requirement("PLT-12")
def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    path, content = tmp_path / "sales.csv", os.urandom(3 << 20)
    path.write_bytes(content)
    with fsspec.open("memory://changing/sales.csv", "wb") as file:
        file.write(content)
    for uri, write in (
        (str(path), lambda: os.utime(path, (1, 1))),
        (str(path), lambda: path.write_bytes(content + b"more")),
        ("memory://changing/sales.csv", lambda: fsspec.filesystem("memory").pipe("/changing/sales.csv", b"other")),
    ):
        chunks = source_files.chunks(Source(SETTING, uri))
        next(chunks)
        write()
        with pytest.raises(SourceError, match="changed while it was fetched; run again once the new file is complete"):
            list(chunks)


@pytest.fixture(scope="module")
def object_store() -> Iterator[ObjectStore]:
    with running_object_store() as store:
        yield store


@pytest.fixture
def bucket(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """URI of a new bucket. The driver gets the object store's address from environment variables."""
    for name, value in object_store.options.items():
        monkeypatch.setenv(name, value)
    # Clear fsspec's cache, because a cached driver keeps the environment variables with which it was created.
    driver = fsspec.get_filesystem_class("s3")
    driver.clear_instance_cache()
    yield object_store.lake()
    driver.clear_instance_cache()


@pytest.mark.requirement("CRE-2", "PLT-4")
def test_a_file_is_landed_from_an_object_store(engine: Engine, bucket: str) -> None:
    with fsspec.open(f"{bucket}/sales.csv", "wb") as file:
        file.write(gzip.compress(CONTENT))
    with fsspec.open(f"{bucket}/sales.parquet", "wb") as file:
        pq.write_table(pa.table({"a": [1], "b": [2]}), file)
    assert landed(engine, f"{bucket}/sales.csv") == [good(2, "1", "2")]
    assert landed(engine, f"{bucket}/sales.parquet") == [good(1, 1, 2)]  # type: ignore[arg-type]


@pytest.mark.requirement("PLT-12")
def test_an_object_that_is_replaced_while_it_is_fetched_is_refused(bucket: str) -> None:
    uri = f"{bucket}/large.csv"
    with fsspec.open(uri, "wb") as file:
        file.write(bytes(2 << 20))
    chunks = source_files.chunks(Source(SETTING, uri))
    next(chunks)
    with fsspec.open(uri, "wb") as file:
        file.write(b"1" * (2 << 20))
    with pytest.raises(SourceError, match="changed while it was fetched"):
        list(chunks)


@pytest.mark.requirement("PLT-2")
def test_look_at_returns_a_different_result_after_each_write_to_the_file(bucket: str) -> None:
    for uri in (f"{bucket}/sales.csv.gz", "memory://looks/sales.csv.gz"):
        source = Source(SETTING, uri)
        looks: list[dict[str, str]] = [{}]
        for content in (b"first", b"other"):
            # Fill the driver's listing cache, to check that `look_at` does not use it.
            fsspec.filesystem(uri.split(":")[0]).find(uri.rsplit("/", 1)[0], detail=True)
            with fsspec.open(uri, "wb") as file:
                file.write(content)
            looks.append(look_at(source))
            assert look_at(source) == looks[-1]
        assert len({str(look) for look in looks}) == 3, uri
    with pytest.raises(SourceError, match=f"none .{SETTING}. cannot be inspected: FileNotFoundError"):
        look_at(Source(SETTING, f"{bucket}/none"))


@pytest.mark.requirement("PLT-2")
def test_look_at_returns_the_entity_tag_and_modification_time_of_a_web_file(server: Server) -> None:
    source = Source(SETTING, f"{server.url}/watched.csv")
    for head, facts in (
        (None, {}),
        ({}, {}),
        ({"ETag": '"1"', "Last-Modified": "then"}, {"ETag": '"1"', "Last-Modified": "then", "size": ""}),
        ({"Last-Modified": "then", "Content-Length": "8"}, {"Last-Modified": "then", "size": "8"}),
        ({"Last-Modified": OLD}, {"Last-Modified": OLD, "size": ""}),
        # A second write in the same second would get the same `Last-Modified`.
        ({"Last-Modified": formatdate(usegmt=True)}, {}),
        ({"Last-Modified": "then", "ETag": "1"}, {"Last-Modified": "then", "ETag": "1", "size": ""}),
    ):
        server.pages["/watched.csv"] = Page(CONTENT, head=head)
        assert look_at(source) == facts
    assert trouble_with(source) is None
    none = Source(SETTING, f"{server.url}/none.csv")
    assert trouble_with(none) == f"{none} cannot be reached: the server returned HTTP 404 Not Found instead of 200"


@pytest.mark.requirement("PLT-8", "CRE-2")
def test_errors_of_an_object_store_contain_no_secrets(
    engine: Engine, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = {f"{bucket}/none.csv": "FileNotFoundError: ", "s3://nowhere/none.csv": "NoSuchBucket: "}
    for uri, reason in refusals.items():
        message = refused(engine, uri)
        assert message.startswith(f"<uri> ({SETTING}) cannot be fetched: {reason}")
        assert SECRET not in message
    fsspec.get_filesystem_class("s3").clear_instance_cache()
    endpoint = f"http://127.0.0.1:{reserve_port()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    # With the driver's default of five attempts, this test would wait about six seconds.
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    message = refused(engine, f"{bucket}/sales.csv")
    assert message.startswith(f"<uri> ({SETTING}) cannot be fetched: EndpointConnectionError: ")
    assert endpoint in message
    assert SECRET not in message


@pytest.mark.requirement("PLT-12")
def test_a_remark_reports_a_file_without_a_final_line_break(engine: Engine, tmp_path: Path) -> None:
    for content, remarks in ((CONTENT, []), (CONTENT.rstrip(), [NO_FINAL_LINE_BREAK])):
        (tmp_path / "sales.csv").write_bytes(gzip.compress(content))
        with land(Source(SETTING, str(tmp_path / "sales.csv")), engine) as landed_file:
            assert landed_file.remarks == remarks


def test_a_missing_file_or_a_folder_is_refused_with_its_path(engine: Engine, tmp_path: Path) -> None:
    point = f"point {SETTING} at a file"
    os.mkfifo(tmp_path / "pipe")
    assert refused(engine, tmp_path / "none.csv") == f"<uri> ({SETTING}) does not exist; {point}"
    assert refused(engine, tmp_path) == f"<uri> ({SETTING}) is a folder; {point}"
    assert refused(engine, tmp_path / "none.csv.gz") == f"<uri> ({SETTING}) does not exist; {point}"
    assert refused(engine, tmp_path / "pipe") == f"<uri> ({SETTING}) is not a regular file; {point}"
    assert trouble_with(Source(SETTING, str(tmp_path))) == f"{tmp_path} ({SETTING}) is a folder; {point}"


def test_a_damaged_packed_file_is_refused(engine: Engine, tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(gzip.compress(CONTENT * 1_000)[:-20])
    assert refused(engine, path) == f"<uri> ({SETTING}) is truncated: its gzip data end too early; fetch it again"


@pytest.mark.requirement("PLT-8", "CRE-2")
def test_errors_of_unreachable_sources_contain_no_passwords(tmp_path: Path, server: Server) -> None:
    refusals = {
        f"teleport://anna:{PASSWORD}@host/x.csv": "ValueError: Protocol not known: teleport",
        f"ftp://anna:{PASSWORD}@127.0.0.1:{reserve_port()}/x.csv": "ConnectionRefusedError: ",
        f"http://anna:{PASSWORD}@127.0.0.1:{reserve_port()}/x.csv?token={PASSWORD}": "Connection refused",
        f"http://anna:{PASSWORD}@:/x.csv": "InvalidURL: ",
        f"{server.url}/none.csv?token={PASSWORD}": "the server returned HTTP 404 Not Found instead of 200",
        "memory://none.csv": "FileNotFoundError: ",
    }
    for uri, reason in refusals.items():
        message = refusal(uri, tmp_path)
        assert reason in message
        assert SETTING in message
        trouble = trouble_with(Source(SETTING, uri))
        assert trouble
        assert PASSWORD not in trouble


@pytest.mark.requirement("PLT-4", "PLT-8")
@pytest.mark.parametrize(
    ("uri", "module", "fix"),
    [
        ("az://box/x.csv", "adlfs", "run `pip install 'platform-assets[azure]'`"),
        ("gs://box/x.csv", "gcsfs", "run `pip install 'platform-assets[gcs]'`"),
        ("sftp://host/x.csv", "paramiko", 'SFTPFileSystem requires "paramiko" to be installed'),
    ],
)
def test_the_error_for_a_missing_driver_says_how_to_install_it(
    monkeypatch: pytest.MonkeyPatch, uri: str, module: str, fix: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.delitem(import_module("fsspec.registry")._registry, uri.split(":", maxsplit=1)[0], raising=False)
    trouble = trouble_with(Source(SETTING, uri.replace("://", f"://anna:{PASSWORD}@")))
    assert trouble == f"{uri} ({SETTING}) needs a driver that is not installed; {fix}"


def test_a_source_is_shown_with_its_variable_or_as_demo_data() -> None:
    assert str(Source(SETTING, f"ftp://anna:{PASSWORD}@host/x.csv")) == f"ftp://host/x.csv ({SETTING})"
    signed = f"https://host/x.csv?sv=2022&sig={PASSWORD}%3D"
    assert str(Source(SETTING, signed)) == f"https://host/x.csv ({SETTING})"
    assert str(Source(SETTING, "/data/x.csv", demo=True)) == "/data/x.csv (demo data)"
