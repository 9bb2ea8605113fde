"""Each file of a zone lands exactly once, even if it is renamed or touched, or if the lake or database is lost."""

from __future__ import annotations

import gzip
import json
import os
import uuid
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from platform_assets.base.errors import SourceError
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.landed_files import LandedFiles
from platform_assets.landing import landing_zone
from platform_assets.landing.landing_zone import Zone
from platform_assets.landing.zone_batch import FileForm
from platform_assets.landing.zone_folder import Listing, Look, ZoneFolder
from platform_assets.services import Services
from platform_assets_tests.landing.yard import HEADER, PARCELS, Yard, failure, metadata

if TYPE_CHECKING:
    import dagster as dg

    from platform_assets_tests.landing.conftest import OpenYard
    from platform_assets_tests.object_store import ObjectStore


def parcel(weight: float) -> str:
    return f"{HEADER}{weight},1\n"


# Which files are read, on each kind of store


@pytest.fixture(params=["folder", "object_store", "azure_store", "google_store"])
def any_yard(request: pytest.FixtureRequest, open_yard: OpenYard, monkeypatch: pytest.MonkeyPatch) -> Yard:
    """A landing zone on each kind of store: a folder, S3, Azure and Google."""
    if request.param == "folder":
        return open_yard()
    server: ObjectStore = request.getfixturevalue(request.param)
    for name, value in server.environment.items():
        monkeypatch.setenv(name, value)
    return open_yard(f"{server.lake()}/zone")


@pytest.mark.requirement("SEN-1")
def test_files_with_the_same_content_land_once_and_all_their_names_are_recorded(
    any_yard: Yard, instance: dg.DagsterInstance
) -> None:
    yard = any_yard
    yard.drop("north/a.txt", f"{HEADER}1,2\n3,4\n")
    yard.drop("b.txt", parcel(5))
    yard.run(instance)
    landed = [("b.txt", 2, 5.0), ("north/a.txt", 2, 1.0), ("north/a.txt", 3, 3.0)]
    assert yard.rows() == landed
    # Write the same contents again: under a second name, with a new time, and under a new name after a removal.
    yard.drop("copy.txt", f"{HEADER}1,2\n3,4\n")
    yard.drop("north/a.txt", f"{HEADER}1,2\n3,4\n")
    yard.remove("b.txt")
    yard.drop("c.txt", parcel(5))
    yard.run(instance)
    assert yard.rows() == landed
    assert yard.states() == {"b.txt c.txt": "landed", "north/a.txt copy.txt": "landed"}
    assert len(yard.services.tables.versions(PARCELS.name)) == 1
    # A rewritten file is treated as a new file, and the rows of its old content are kept.
    yard.drop("c.txt", parcel(7))
    yard.run(instance)
    assert yard.rows() == sorted([*landed, ("c.txt", 2, 7.0)])


@pytest.mark.requirement("SEN-1")
def test_hidden_and_unfinished_files_are_ignored_but_files_with_odd_names_are_not(any_yard: Yard) -> None:
    for name in (".a.txt", "_b.txt", "c.txt.part", "d.TMP", ".x/e.txt", "_x/f.txt", "g/_h/i.txt"):
        any_yard.drop(name, parcel(1))
    odd = ["a b/größe + 100%.txt", "c#d.txt", "e[1].txt", "f=g&h.txt", "noextension"]
    for number, name in enumerate(odd):
        any_yard.drop(name, parcel(number))
    assert any_yard.zone.discover(60).found == len(odd)
    assert sorted(any_yard.states()) == sorted(odd)


@pytest.mark.requirement("SEN-1")
def test_a_file_is_not_read_until_it_was_unchanged_for_the_settle_time(any_yard: Yard, open_yard: OpenYard) -> None:
    yard = open_yard(any_yard.uri, yard_settle_seconds=30)

    def look() -> tuple[int, int]:
        waiting = yard.zone.discover(60)
        return waiting.found, waiting.unread

    yard.drop("a.txt", parcel(1))
    assert look() == (0, 1)
    yard.pass_time(29)
    assert look() == (0, 1)
    yard.drop("a.txt", f"{parcel(1)}2,2\n")
    yard.pass_time(29)
    # The file was written since the last scan, so the settle time starts again.
    assert look() == (0, 1)
    yard.pass_time(29)
    assert look() == (0, 1)
    yard.pass_time(2)
    assert look() == (1, 0)


def test_an_empty_folder_has_no_files_but_a_missing_bucket_is_an_error(any_yard: Yard, open_yard: OpenYard) -> None:
    assert any_yard.zone.discover(60).found == 0
    if "://" in any_yard.uri:
        nowhere = open_yard(f"{any_yard.uri.split('://')[0]}://{uuid.uuid4().hex}/zone")
        with pytest.raises(SourceError, match="PLATFORM_YARD_URI. cannot be listed: "):
            nowhere.zone.discover(60)


def test_a_missing_folder_is_an_error_that_names_the_setting(open_yard: OpenYard, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for uri, said in {
        str(tmp_path / "none"): "does not exist; create the folder, or correct PLATFORM_YARD_URI",
        str(tmp_path / "file"): "is a file; create the folder, or correct PLATFORM_YARD_URI",
        "https://user:hunter2-password@example.org/x": "is a web address",
        "nosuch://x": "cannot be listed: ValueError: Protocol not known",
    }.items():
        with pytest.raises(SourceError, match=said) as raised:
            open_yard(uri).zone.discover(60)
        assert "PLATFORM_YARD_URI" in str(raised.value)
        assert "hunter2" not in str(raised.value)


def test_a_run_on_an_empty_zone_loads_nothing(yard: Yard, instance: dg.DagsterInstance) -> None:
    assert metadata(yard.run(instance))["batch_rows"] == 0
    assert yard.rows() == []


# Good rows, bad rows, bad files


@pytest.mark.requirement("PLT-6", "PLT-12")
def test_bad_rows_are_quarantined_with_their_file_and_line_and_reason_and_bad_files_are_set_aside(
    yard: Yard, instance: dg.DagsterInstance
) -> None:
    yard.drop("good.txt", f"{HEADER}1,1\nheavy,1\n,1\n2,x\n3,1,9\n4,1\n")
    yard.drop("utf16.txt", parcel(8).encode("utf-16"))
    yard.drop("packed.txt", gzip.compress(parcel(9).encode()))
    yard.drop("all bad.txt", f"{HEADER}heavy,1\n")
    yard.drop("header.txt", HEADER)
    yard.drop("empty.txt", "")
    yard.drop("other separator.txt", "weight_kg;pieces\n1;1\n")
    yard.drop("binary.txt", b"\x00\xff\x00" * 99)
    yard.drop("damaged.txt.gz", gzip.compress(parcel(1).encode() * 99)[:-9])
    result = yard.run(instance)
    assert yard.rows() == [("good.txt", 2, 1.0), ("good.txt", 7, 4.0), ("packed.txt", 2, 9.0), ("utf16.txt", 2, 8.0)]
    assert yard.bad() == [
        ("all bad.txt", 2, "weight_kg_is_a_number, weight_kg_is_present"),
        ("good.txt", 3, "weight_kg_is_a_number, weight_kg_is_present"),
        ("good.txt", 4, "weight_kg_is_present"),
        ("good.txt", 5, "pieces_is_a_whole_number"),
        ("good.txt", 6, "line_is_readable"),
    ]
    bad = yard.services.tables.read(PARCELS.quarantine).set_index(["file_name", "line"])
    assert bad.loc[("good.txt", 6), "source_row"] == "3,1,9"
    assert bad.loc[("good.txt", 6), "source_error"] == "it has 3 fields; the header has 2"
    assert json.loads(str(bad.loc[("good.txt", 3), "source_row"]))["weight_kg"] == "heavy"
    assert bad.columns.tolist() == ["file_digest", "landed_at", "broken_rules", "source_row", "source_error"]
    assert bad.loc[("good.txt", 3), "file_digest"] == yard.file("good.txt").digest
    assert {name for name, state in yard.states().items() if state == "landed"} == {
        "good.txt",
        "utf16.txt",
        "packed.txt",
    }
    reasons = {name: yard.file(name).reason for name, state in yard.states().items() if state == "set_aside"}
    assert reasons == {
        "all bad.txt": "none of its rows can be used; they are in the quarantine",
        "header.txt": "header.txt has a header but no rows; it needs at least one row",
        "empty.txt": "empty.txt is empty; it needs a header and rows",
        "other separator.txt": "other separator.txt lacks the columns ['weight_kg', 'pieces']; it has "
        "['weight_kg;pieces']",
        "binary.txt": "binary.txt is neither parquet nor a CSV file in UTF-8",
        "damaged.txt.gz": reasons["damaged.txt.gz"],
    }
    assert "damaged.txt.gz" in str(reasons["damaged.txt.gz"])
    # The checks only warn. The next batch lands, although this batch had more bad rows than allowed.
    checks = {one.check_name: one.passed for one in result.get_asset_check_evaluations()}
    assert (checks["bad_rows_are_within_limit"], checks["every_value_has_its_type"]) == (False, False)
    yard.drop("next.txt", parcel(7))
    yard.run(instance)
    assert ("next.txt", 2, 7.0) in yard.rows()
    assert len(yard.bad()) == 5


@pytest.mark.requirement("SEN-1")
def test_a_field_comes_from_its_column_or_else_the_path_or_else_the_file_name(
    open_yard: OpenYard, instance: dg.DagsterInstance
) -> None:
    yard = open_yard(yard_pattern="{gate}/{weighed_at}.txt")
    yard.drop("north/20260228T103000+0100.txt", f"gate,{HEADER},1,1\neast,2,1\n")
    yard.drop("south/today.txt", f"WEIGHED_AT,{HEADER}2026-01-01T00:00:00Z,3,1\n,4,1\nnow,5,1\nx,6\n")
    yard.drop("extra.txt", f"color,{HEADER.strip()}\nred,7,1")
    result = yard.run(instance)
    table = yard.services.tables.read(PARCELS.name).sort_values("weight_kg")
    moment, new_year = datetime(2026, 2, 28, 9, 30, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC)
    times = [None if time is pd.NaT else time.to_pydatetime() for time in table["weighed_at"]]
    assert [*zip(table["gate"], times, strict=True)] == [
        ("north", moment),
        ("east", moment),
        ("south/today.txt", new_year),
        ("south/today.txt", None),
        ("extra.txt", None),
    ]
    assert [rules for _, _, rules in yard.bad()] == ["weighed_at_is_of_type_timestamp('UTC')", "line_is_readable"]
    assert sorted(metadata(result)["source_remarks"]) == [
        "extra.txt, south/today.txt: the path does not match {gate}/{weighed_at}.txt",
        "extra.txt: the last line has no line break, so the file may be truncated",
        "extra.txt: undeclared columns: color",
    ]


def test_equal_rows_are_kept_within_a_file_and_across_files(yard: Yard, instance: dg.DagsterInstance) -> None:
    yard.drop("a.txt", f"{HEADER}1,1\n1,1\n")
    yard.drop("b.txt", f"{HEADER}1,1\n1,1\n2,2\n")
    yard.run(instance)
    assert len(yard.rows()) == 5


# Files that cannot be read at the moment


@pytest.mark.requirement("SEN-1")
def test_removed_content_that_never_landed_lands_when_it_is_written_again(
    yard: Yard, instance: dg.DagsterInstance
) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        yard.drop(name, parcel(ord(name[0])))
    assert yard.zone.discover(60).found == 3
    yard.remove("a.txt")
    yard.drop("b.txt", parcel(1))
    yard.run(instance)
    assert yard.rows() == [("b.txt", 2, 1.0), ("c.txt", 2, 99.0)]
    waiting = yard.zone.discover(60)
    assert (waiting.found, waiting.absent, waiting.landed) == (0, 2, 2)
    yard.drop("again.txt", parcel(97))
    yard.run(instance)
    assert ("again.txt", 2, 97.0) in yard.rows()
    assert yard.states()["a.txt again.txt"] == "landed"


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every file: run the tests as another user")
def test_an_unreadable_file_does_not_block_other_files(yard: Yard, instance: dg.DagsterInstance) -> None:
    yard.drop("a.txt", parcel(1))
    yard.drop("secret.txt", parcel(2))
    Path(yard.root, "secret.txt").chmod(0)
    yard.run(instance)
    assert yard.rows() == [("a.txt", 2, 1.0)]
    waiting = yard.zone.discover(60)
    assert (waiting.unreadable, "Permission denied" in str(waiting.problem)) == (1, True)


def test_undecodable_names_and_special_files_do_not_block_other_files(yard: Yard) -> None:
    yard.drop("a.txt", parcel(1))
    Path(os.fsdecode(os.fsencode(yard.root) + b"/\xff.txt")).write_text(parcel(2))
    os.mkfifo(f"{yard.root}/pipe")
    Path(yard.root, "broken").symlink_to("nowhere")
    waiting = yard.zone.discover(60)
    assert (waiting.found, waiting.unreadable) == (1, 1)
    assert waiting.problem == "\\udcff.txt its name is not in UTF-8; rename it"


@dataclass(frozen=True)
class SlowFolder(ZoneFolder):
    """A folder with a simulated clock: a listing takes some seconds, and each copy one second."""

    listing: int = 0
    passed: list[int] = field(default_factory=list)

    def clock(self) -> float:
        return sum(self.passed)

    def list(self) -> Listing:
        self.passed.append(self.listing)
        return super().list()

    def copy(self, name: str, look: Look, target: Path | None = None) -> str:
        self.passed.append(1)
        return super().copy(name, look, target)


@pytest.mark.parametrize(("seconds", "listing", "found"), [(1, 0, [2, 4, 6, 7]), (1, 3, [4, 7, 7]), (5, 3, [6, 7])])
@pytest.mark.requirement("PLT-9")
def test_the_time_for_reading_files_is_the_maximum_of_the_time_limit_and_the_listing_time(
    yard: Yard, seconds: int, listing: int, found: list[int]
) -> None:
    for number in range(7):
        yard.drop(f"{number}.txt", parcel(number))
    folder = SlowFolder(yard.zone.folder.source, listing)
    database = yard.services.database
    zone = Zone("slow", folder, FileForm(()), 0, lambda: database)
    assert [zone.discover(seconds, folder.clock).found for _ in found] == found


@pytest.mark.requirement("SEN-1")
def test_an_unchanged_file_is_not_read_again_and_losing_the_cache_does_not_land_it_twice(
    yard: Yard, instance: dg.DagsterInstance
) -> None:
    yard.drop("a.txt", parcel(1))
    yard.run(instance)
    state = Path(yard.root, "a.txt").stat()
    Path(yard.root, "a.txt").write_text(parcel(2))
    os.utime(f"{yard.root}/a.txt", ns=(state.st_atime_ns, state.st_mtime_ns))
    with yard.services.database.pooled() as connection, connection.transaction():
        changed = "update platform.landing_names set marks = marks || jsonb_build_object('created', %s::text)"
        created = yard.zone.folder.list().files["a.txt"].marks["created"]
        connection.execute(changed, [created])
    # Size and marks (such as the modification time) equal those of the previous listing, so the content is not read.
    assert yard.zone.discover(60).found == 0
    Path(yard.root, "a.txt").write_text(parcel(1))
    with yard.services.database.pooled() as connection, connection.transaction():
        connection.execute("delete from platform.landing_names")
    yard.run(instance)
    assert yard.rows() == [("a.txt", 2, 1.0)]


# Batches


@pytest.mark.requirement("SEN-1")
def test_a_run_takes_a_bounded_batch_and_the_next_run_takes_the_remaining_files(
    yard: Yard, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landing_zone, "MOST_FILES", 3)
    for number in range(5):
        yard.drop(f"{number}.txt", parcel(number))
    first = metadata(yard.run(instance))
    assert (first["batch"], first["batch_rows"], first["dagster/row_count"]) == (1, 3, 3)
    monkeypatch.setattr(landing_zone, "MOST_BYTES", 1)
    second = metadata(yard.run(instance))
    assert (second["batch"], second["batch_rows"], second["dagster/row_count"]) == (2, 1, 4)
    yard.run(instance)
    assert len(yard.rows()) == 5
    empty = metadata(yard.run(instance))
    assert (empty["batch"], empty["batch_rows"], empty["dagster/row_count"]) == (0, 0, 5)
    assert len(yard.services.tables.versions(PARCELS.name)) == 3


@pytest.mark.requirement("SEN-1")
def test_concurrent_scans_and_runs_land_each_file_once(yard: Yard, tmp_path: Path) -> None:
    for number in range(30):
        yard.drop(f"{number}.txt", parcel(number))

    def look(_: int) -> None:
        yard.zone.discover(60)

    def take(number: int) -> None:
        engine = Engine(tmp_path / f"engine {number}", "100MB", 1)
        services = Services(yard.services.settings, yard.services.of_domains)
        own = Yard(services, yard.uri)
        with closing(engine), closing(services):
            batch = own.zone.take(LandedFiles(services.tables, PARCELS), engine, f"run {number}")
            rows = batch.rows.rows.select("file_digest", "line", "file_name", "weight_kg")
            with engine.stage(rows) as staged:
                services.tables.append(PARCELS.name, staged, batch.number)
                batch.published(engine.staged(staged))
            batch.release()

    with ThreadPoolExecutor() as pool:
        list(pool.map(look, range(3)))
        list(pool.map(take, range(2)))
    with yard.services.database.pooled() as connection:
        query = "select count(*), count(distinct run) from platform.landing_files"
        assert connection.execute(query).fetchone() == (30, 1)
    table = yard.services.tables.read(PARCELS.name)
    assert len(table) == table["file_name"].nunique() == 30


# Lost and restored stores


@pytest.mark.requirement("SEN-1", "PLT-10")
def test_after_the_loss_of_the_lake_the_files_still_in_the_zone_land_again(
    yard: Yard, instance: dg.DagsterInstance
) -> None:
    yard.drop("a.txt", parcel(1))
    yard.drop("gone.txt", parcel(2))
    yard.run(instance)
    yard.remove("gone.txt")
    lake = yard.services.settings.lake
    Path(lake, PARCELS.name).rename(f"{lake}/lost")
    yard.drop("b.txt", parcel(3))
    yard.run(instance)
    assert yard.rows() == [("a.txt", 2, 1.0), ("b.txt", 2, 3.0)]
    assert yard.states() == {"a.txt": "landed", "b.txt": "landed", "gone.txt": "found"}


@pytest.mark.requirement("SEN-1", "PLT-10")
def test_a_lost_or_restored_database_is_corrected_from_the_lake(yard: Yard, instance: dg.DagsterInstance) -> None:
    yard.drop("a.txt", f"{HEADER}1,1\nx,1\n")
    yard.drop("bad.txt", f"{HEADER}x,1\n")
    yard.run(instance)
    yard.drop("b.txt", parcel(2))
    yard.run(instance)
    rows, bad = yard.rows(), yard.bad()
    with yard.services.database.pooled() as connection, connection.transaction():
        connection.execute("delete from platform.landing_files")
        connection.execute("delete from platform.landing_names")
    yard.run(instance)
    assert (yard.rows(), yard.bad()) == (rows, bad)
    assert yard.states() == {"a.txt": "landed", "b.txt": "landed", "bad.txt": "set_aside"}
    yard.drop("c.txt", parcel(3))
    yard.run(instance)
    assert yard.rows() == sorted([*rows, ("c.txt", 2, 3.0)])


# Processing of landed files


@pytest.mark.requirement("SEN-1")
def test_landed_files_are_marked_as_processed_in_the_transaction_of_the_caller(
    yard: Yard, instance: dg.DagsterInstance
) -> None:
    yard.drop("a.txt", parcel(1))
    yard.drop("b.txt", parcel(2))
    yard.drop("bad.txt", HEADER)
    yard.run(instance)
    landed = yard.zone.landed()
    assert sorted([*one.names] for one in landed) == [["a.txt"], ["b.txt"]]
    digests = [one.digest for one in landed]
    with yard.services.database.pooled() as connection, connection.transaction(force_rollback=True):
        assert yard.zone.mark_processed(connection, digests, "run") == set(digests)
    assert len(yard.zone.landed()) == 2
    with yard.services.database.pooled() as connection, connection.transaction():
        assert yard.zone.mark_processed(connection, digests[:1], "run") == {digests[0]}
    with yard.services.database.pooled() as connection, connection.transaction():
        more = [*digests, yard.file("bad.txt").digest, "unknown"]
        assert yard.zone.mark_processed(connection, more, "run") == {digests[1]}
    assert yard.zone.landed() == []
    assert sorted(yard.states().values()) == ["processed", "processed", "set_aside"]


def test_sample_files_need_no_settle_time_and_are_written_only_once(
    open_yard: OpenYard, instance: dg.DagsterInstance
) -> None:
    yard = open_yard("", yard_settle_seconds=3_600)
    assert metadata(yard.run(instance))["demo"] is True
    assert yard.rows() == [("north/sample.txt", 2, 1.5)]
    yard.remove("north/sample.txt")
    yard.drop("other.txt", parcel(1))
    yard.run(instance)
    assert yard.zone.folder.list().files.keys() == {"other.txt"}
    assert len(yard.rows()) == 1


def test_a_missing_folder_fails_the_run_and_its_files_land_later(yard: Yard, instance: dg.DagsterInstance) -> None:
    yard.drop("a.txt", parcel(1))
    assert yard.zone.discover(60).found == 1
    Path(yard.root).rename(f"{yard.root} away")
    result = yard.run(instance, may_fail=True)
    assert "does not exist; create the folder" in failure(result)
    Path(f"{yard.root} away").rename(yard.root)
    yard.run(instance)
    assert yard.rows() == [("a.txt", 2, 1.0)]


@pytest.mark.requirement("PLT-12")
def test_times_that_python_cannot_represent_in_utc_are_quarantined(yard: Yard, instance: dg.DagsterInstance) -> None:
    times = ["9999-12-31T23:59:59Z", "9999-12-31T23:59:59-05:00", "0001-01-01T00:00:00+05:00", "0001-01-01T00:00:00Z"]
    yard.drop("a.txt", f"weighed_at,{HEADER}" + "".join(f"{time},1,1\n" for time in times))
    yard.run(instance)
    assert [line for _, line, _ in yard.rows()] == [2, 5]
    assert [line for _, line, _ in yard.bad()] == [3, 4]


@pytest.mark.requirement("PLT-10", "SEN-1")
def test_old_processed_files_are_removed_and_their_content_never_lands_again(
    any_yard: Yard, instance: dg.DagsterInstance
) -> None:
    yard, age = any_yard, timedelta(days=30)
    for number, name in enumerate(("old.txt", "rewritten.txt", "recent.txt", "waiting.txt")):
        yard.drop(name, parcel(number))
    yard.run(instance)
    done = [yard.file(name).digest for name in ("old.txt", "rewritten.txt", "recent.txt")]
    with yard.services.database.pooled() as connection, connection.transaction():
        yard.zone.mark_processed(connection, done, "a run")
        connection.execute("update platform.landing_files set first_seen_at = now() - interval '31 days'")
    yard.pass_time(31 * 86_400)
    with yard.services.database.pooled() as connection, connection.transaction():
        connection.execute("update platform.landing_names set seen_at = now() where name = 'recent.txt'")
    yard.drop("rewritten.txt", parcel(10))
    assert yard.zone.remove_processed(age) == 1
    assert sorted(yard.zone.folder.list().files) == ["recent.txt", "rewritten.txt", "waiting.txt"]
    yard.drop("again.txt", parcel(0))
    yard.run(instance)
    assert yard.states()["old.txt again.txt"] == "processed"
    assert sorted(weight for _, _, weight in yard.rows()) == [0, 1, 2, 3, 10]
