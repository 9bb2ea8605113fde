"""Backup of a running platform, and the restore of the backup into another home and other databases."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import pytest
from psycopg import sql
from pydantic import SecretStr
from sqlalchemy import make_url

from platform_assets.base.errors import DatabaseError, PlatformError
from platform_assets.base.home_folder import RESTORING, make_home
from platform_assets.database.connections import Database, Purpose
from platform_assets.operations.backup import make_backup
from platform_assets.operations.backup_files import MANIFEST, BackupError, Manifest
from platform_assets.operations.backup_record import newest_backup
from platform_assets.operations.doctor import examine
from platform_assets.operations.restore import restore_backup
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import prepared
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, publish, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def silent(_: str) -> None:
    """Ignore a progress message."""


@pytest.fixture
def services(tmp_path: Path, database_url: str, owner_url: str) -> Iterator[Services]:
    settings = Settings(
        home=tmp_path / "home", database_url=SecretStr(database_url), migration_database_url=SecretStr(owner_url)
    )
    with closing(Services(settings)) as services:
        yield services


@pytest.fixture
def elsewhere(tmp_path: Path, database_url: str, owner_url: str, postgres_server: Database) -> Iterator[Settings]:
    """Settings with another home, and with databases that do not exist yet."""
    urls = make_url(database_url), make_url(owner_url)
    service, owner = (url.set(database=f"{url.database}_again") for url in urls)
    yield Settings(
        home=tmp_path / "other" / "home",
        database_url=SecretStr(service.render_as_string(hide_password=False)),
        migration_database_url=SecretStr(owner.render_as_string(hide_password=False)),
    )
    with postgres_server.maintenance() as connection:
        for purpose in get_args(Purpose):
            name = sql.Identifier(Database(owner).name(purpose))
            connection.execute(sql.SQL("drop database if exists {} with (force)").format(name))


def works_of(services: Services) -> Works:
    ledger = prepared(services.database, keep_heads=services.kept_heads.keep)
    return Works(ledger, services.registry, services.settings.home / "lake", services.database.lock)


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.mark.requirement("PLT-10", "PLT-7")
def test_a_restored_model_is_served_audited_and_reproduced_after_the_original_home_was_deleted(
    services: Services, elsewhere: Settings, tmp_path: Path
) -> None:
    publish(services.tables, services.engine, readings(400))
    trained = services.trainer.train(ONE_CANDIDATE, "user", silent)
    crowned = works_of(services).crown()
    (services.settings.home / "exports").mkdir()
    (services.settings.home / "exports" / "forecast.csv.gz").write_bytes(b"no archive")
    made = make_backup(services, tmp_path / "backup", silent)
    shutil.rmtree(services.settings.home)

    restore_backup(elsewhere, tmp_path / "backup", silent)

    with closing(Services(elsewhere)) as restored:
        assert restored.promoter.audit() == []
        assert [restored.promoter.drifted(name) for name in restored.promoter.models()] == [[], []]
        assert restored.promoter.altered(crowned.name) == []
        champion = restored.ledger.champion(crowned.name)
        assert (champion and champion.version, champion and champion.digest) == (crowned.version, crowned.digest)
        assert restored.trainer.reproduce(ONE_CANDIDATE, trained.version.version, silent).same
        assert (elsewhere.home / "exports" / "forecast.csv.gz").read_bytes() == b"no archive"
        broken = [finding for finding in examine(restored) if finding.state == "broken"]
        assert broken == []
    backup = newest_backup(services.database)
    assert backup
    assert (f"{backup.at.isoformat()}", backup.is_recent(1)) == (made.made_at, True)


@pytest.mark.requirement("PLT-10", "PRO-5")
def test_promotions_and_loads_during_a_backup_leave_the_backup_consistent(
    services: Services, elsewhere: Settings, tmp_path: Path
) -> None:
    works = works_of(services)
    publish(services.tables, services.engine, readings(30))
    first = works.crown()
    moments = {"dumping the database": "print-2", "copying the lake": "print-3"}

    def interfere(line: str) -> None:
        if found := next((moment for moment in moments if line.startswith(moment)), None):
            works.crown(moments.pop(found))
            publish(services.tables, services.engine, readings(40 + len(moments)))

    make_backup(services, tmp_path / "backup", interfere)
    assert not moments
    restore_backup(elsewhere, tmp_path / "backup", silent)
    with closing(Services(elsewhere)) as restored:
        champion = restored.ledger.champion(first.name)
        assert champion
        assert champion.version == first.version
        assert (restored.promoter.audit(), restored.promoter.drifted(first.name)) == ([], [])
        assert list(restored.tables.damage()) == []
        only_functions_write_the_ledger(restored)


def only_functions_write_the_ledger(restored: Services) -> None:
    import psycopg

    works_of(restored).crown("print-4")
    assert restored.promoter.audit() == []
    with restored.database.connect("platform") as connection:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("update platform.approval_events set actor = 'nobody'")
        everyone = connection.execute(
            "select proname from pg_proc, aclexplode(coalesce(proacl, acldefault('f', proowner))) as right_"
            " where pronamespace = 'platform'::regnamespace and grantee = 0"
        ).fetchall()
    assert everyone == []


def damage_file(folder: Path) -> Path:
    """Change one byte of the largest file."""
    path = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    return path


def cut_off(folder: Path) -> Path:
    path = folder / "databases" / "mlflow.dump"
    path.write_bytes(path.read_bytes()[:-1])
    return path


def remove_file(folder: Path) -> Path:
    path = folder / "lake/shop/sales/_delta_log/0.json"
    path.unlink()
    return path


def escape(folder: Path) -> Path:
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"]["lake/../../home.txt"] = [0, ""]
    (folder / MANIFEST).write_text(json.dumps(manifest))
    return folder / MANIFEST


def garble(folder: Path) -> Path:
    (folder / MANIFEST).write_text("{}")
    return folder / MANIFEST


def of_tomorrow(folder: Path) -> Path:
    path = folder / MANIFEST
    path.write_text(path.read_text().replace('"format": 1', '"format": 2'))
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup folder with a valid manifest, but without valid database dumps."""
    from platform_assets.operations.backup_files import copy_out

    source, folder = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("finished")
    for name in ("lake/shop/sales/_delta_log/0.json", "lake/shop/sales/0.parquet", "databases/mlflow.dump"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(name.encode() * (50 if name.endswith("parquet") else 1))
    import pyarrow.fs as pafs

    names = [name for name in tree(source) if (source / name).is_file()]
    files = copy_out(pafs.SubTreeFileSystem(str(source), pafs.LocalFileSystem()), names, folder)
    Manifest("2026-01-01T00:00:00+00:00", "1", 1, ("platform",), files).write(folder)
    return folder


@pytest.mark.requirement("PLT-10")
@pytest.mark.parametrize("damage", [damage_file, cut_off, remove_file, escape, garble, of_tomorrow])
def test_the_error_for_a_damaged_backup_names_the_damaged_file(
    finished: Path, tmp_path: Path, damage: Callable[[Path], Path]
) -> None:
    folder = tmp_path / "backup"
    shutil.copytree(finished, folder)
    path = damage(folder)
    with pytest.raises(BackupError) as refusal:
        restore_backup(Settings(home=tmp_path / "home"), folder, silent)
    assert str(path) in str(refusal.value)
    assert not (tmp_path / "home").exists()


@pytest.mark.requirement("PLT-10")
def test_a_full_disk_during_a_backup_is_reported(tmp_path: Path) -> None:
    import pyarrow.fs as pafs

    from platform_assets.operations.backup_files import copy_out

    (tmp_path / "source").write_text("x")
    (tmp_path / "backup").mkdir()
    (tmp_path / "backup" / "source").symlink_to("/dev/full")
    with pytest.raises(BackupError, match="backup/source was not written: No space left on device; .* another disk"):
        copy_out(pafs.SubTreeFileSystem(str(tmp_path), pafs.LocalFileSystem()), ["source"], tmp_path / "backup")


@pytest.mark.requirement("PLT-10")
def test_a_backup_is_restored_only_into_an_empty_home_and_an_empty_lake(finished: Path, tmp_path: Path) -> None:
    home, lake = tmp_path / "home", tmp_path / "lake"
    home.mkdir()
    (home / "file").touch()
    with pytest.raises(BackupError, match="is not empty; set PLATFORM_HOME to a new folder"):
        restore_backup(Settings(home=home), finished, silent)
    lake.mkdir()
    (lake / "file").touch()
    with pytest.raises(BackupError, match="the lake .* is not empty: it contains file; change PLATFORM_LAKE_URI"):
        restore_backup(Settings(home=tmp_path / "new", lake_uri=str(lake)), finished, silent)
    assert tree(tmp_path / "new") == []
    with pytest.raises(BackupError, match="set PLATFORM_LAKE_URI|unset PLATFORM_BUNDLE and PLATFORM_LAKE_URI=memory"):
        restore_backup(Settings(home=tmp_path / "new", lake_uri="memory://"), finished, silent)


@pytest.mark.requirement("PLT-10")
def test_a_home_is_unusable_while_a_backup_is_restored_into_it(finished: Path, tmp_path: Path) -> None:
    make_home(tmp_path, RESTORING)
    with pytest.raises(PlatformError, match="a backup is being restored into"):
        make_home(tmp_path)
    with pytest.raises(BackupError, match="was interrupted or is still running; empty the folder first"):
        restore_backup(Settings(home=tmp_path), finished, silent)


@pytest.mark.requirement("PLT-10")
def test_a_backup_is_restored_only_into_empty_databases(services: Services, finished: Path, tmp_path: Path) -> None:
    settings = services.settings.model_copy(update={"home": tmp_path / "new"})
    with pytest.raises(DatabaseError, match=r"is not empty \(tables: .*; restore into a new database"):
        restore_backup(settings, finished, silent)
    assert tree(tmp_path / "new") == []


@pytest.mark.requirement("PLT-10")
@pytest.mark.parametrize(
    ("folder", "settings", "reason"),
    [
        ("filled", {}, "filled is not empty; choose a new folder"),
        ("home/lake/backup", {}, "is inside .*home/lake, which is part of the backup"),
        ("new", {"lake_uri": "memory://"}, "the lake is in memory"),
        ("filled/file", {}, "filled/file cannot be used: File exists; choose a new folder"),
    ],
)
def test_a_folder_or_lake_that_cannot_be_used_for_a_backup_is_refused(
    tmp_path: Path, folder: str, settings: dict[str, Any], reason: str
) -> None:
    (tmp_path / "filled").mkdir()
    (tmp_path / "filled" / "file").touch()
    with pytest.raises(BackupError, match=reason):
        make_backup(Services(Settings(home=tmp_path / "home", **settings)), tmp_path / folder, silent)


@pytest.mark.requirement("PLT-10")
def test_the_error_names_the_user_who_may_not_write_to_the_backup_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def deny(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "mkdir", deny)
    with pytest.raises(BackupError, match=f"by the user with id {os.geteuid()}; change the owner of the folder"):
        make_backup(Services(Settings(home=tmp_path / "home")), tmp_path / "new", silent)
