"""Lakes in unreachable stores or unusable folders, and the error messages about them."""

from __future__ import annotations

import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import TableError
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.lake_location import LakeLocation
from platform_assets_tests.lake.sales_lake import NAME, Lake, by_month, contents, sales
from platform_assets_tests.object_store import SECRET, ObjectStore, running_object_store

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.engine.query_engine import Engine


@pytest.mark.requirement("PLT-8")
def test_an_unreachable_store_gives_an_error_quickly_and_without_secrets(engine: Engine) -> None:
    with closing(socket.socket()) as listener:
        listener.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{listener.getsockname()[1]}"
    store = TableStore("s3://nowhere/lake", engine, ObjectStore(endpoint).options)
    with pytest.raises(TableError, match="shop/sales in s3://nowhere/lake cannot be opened: .*127.0.0.1") as caught:
        store.read(NAME)
    # By default, delta-rs would retry for three minutes.
    assert "retry_timeout 20s" in str(caught.value)
    assert SECRET not in str(caught.value)


def test_transient_failures_are_retried(object_store: ObjectStore, engine: Engine) -> None:
    """The server answers the first two requests of each kind with 503 and 500."""
    uri = object_store.lake()
    with running_object_store(behind=object_store.endpoint) as bad_line:
        lake = Lake(TableStore(uri, engine, bad_line.options), engine, uri, bad_line.options)
        lake.publish(by_month(jan=1), "month")
        lake.publish(by_month(feb=2), "month", partitions=["feb"])
        assert contents(lake.store.read(NAME)) == [("feb", 2.0), ("jan", 1.0)]
        assert [version.version for version in lake.store.versions(NAME)] == [1, 0]


def test_errors_contain_no_secrets_from_options_or_addresses() -> None:
    options = {"AZURE_STORAGE_SAS_TOKEN": "sig=very-secret", "AWS_SECRET_ACCESS_KEY": SECRET}
    location = LakeLocation("s3://user:pass@bucket/lake?sig=signed", options)
    reason = f"GET http://user:pass@host/a?sig=signed with {SECRET} and sig=very-secret failed"
    with pytest.raises(TableError) as caught, location.plain_errors(NAME, "cannot be read"):
        raise OSError(reason)
    expected = "GET http://host/a with *** and *** failed"
    assert str(caught.value) == f"{NAME} in s3://bucket/lake cannot be read: {expected}"


def test_the_error_for_a_missing_bucket_names_the_bucket(object_store: ObjectStore, engine: Engine) -> None:
    store = TableStore("s3://never-made/lake", engine, object_store.options)
    with engine.stage(sales(1)) as staged, pytest.raises(TableError, match="s3://never-made/lake .*NoSuchBucket"):
        store.publish(NAME, staged)


@pytest.mark.parametrize(
    ("folder", "named"),
    [
        ("a%20b", "%"),
        ("a#b", "#"),
        ("a?b/c", "?"),
        ("a\\b", "\\\\"),
        ("a\tb\nc", "\\t \\n"),
        ("[a]", "[ ]"),
        ("a|b^", "^ |"),
        ("a\udc80", "\\udc80"),
    ],
)
def test_a_lake_folder_with_characters_that_delta_rs_misreads_is_refused(
    engine: Engine, tmp_path: Path, folder: str, named: str
) -> None:
    for uri in (str(tmp_path / folder), f"file://{tmp_path}/{folder}/lake"):
        with pytest.raises(TableError) as caught:
            TableStore(uri, engine)
        assert f" has {named} in its path, which delta-rs reads as parts of a URL; set " in str(caught.value)
        str(caught.value).encode()


def test_the_path_of_a_lake_may_contain_spaces_quotes_and_most_symbols(engine: Engine, tmp_path: Path) -> None:
    store = TableStore(str(tmp_path / "a b'c\"d&e;f{g}*<é>:~"), engine)
    with engine.stage(sales(1)) as staged:
        store.publish(NAME, staged)
    assert len(store.read(NAME)) == 1


def test_a_file_uri_is_treated_as_a_folder_path(engine: Engine, tmp_path: Path) -> None:
    assert TableStore(f"file://{tmp_path}/lake/", engine).uri(NAME) == f"{tmp_path}/lake/{NAME}"
