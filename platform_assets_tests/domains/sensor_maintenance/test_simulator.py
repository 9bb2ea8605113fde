"""The device simulator writes every kind of file. The files are reproducible, and no file stays half-written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count, islice
from typing import TYPE_CHECKING

import pytest

from platform_assets.base.errors import SourceError
from platform_assets.domains.sensor_maintenance.simulator import KINDS, SEED, Drop, drops, simulate
from platform_assets_tests.command_line import platform_assets

if TYPE_CHECKING:
    from pathlib import Path

START = datetime(2026, 3, 1, 12, tzinfo=UTC)


def generated(files: int, seed: int = SEED) -> list[Drop]:
    minutes = count()
    return [*islice(drops(0, seed, lambda: START + timedelta(minutes=next(minutes))), files)]


def written(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


@pytest.mark.requirement("SEN-1")
def test_the_first_files_include_every_kind_of_file() -> None:
    found = {drop.kind: drop for drop in generated(len(KINDS))}
    assert [*found] == [*KINDS]
    assert found["on time"].name.endswith("/20260301T120000.000000Z.txt")
    assert found["late"].name.partition("/")[2] < "20260301T1100"
    assert found["half-written"].content.startswith(found["half-written"].begun)
    assert not found["half-written"].begun.endswith(b"\n")
    assert (found["twice"].content, found["twice"].name) != (found["on time"].content, found["on time"].name)
    assert found["twice"].content == found["on time"].content
    assert found["bad lines"].content.splitlines()[-1] == b"0.5"
    with pytest.raises(UnicodeDecodeError):
        found["damaged"].content.decode()


def test_the_seed_determines_the_kinds_and_contents_of_the_files() -> None:
    assert generated(40) == generated(40)
    assert generated(40, seed=1) != generated(40, seed=2)
    assert len({drop.name for drop in generated(200)}) == 200


def test_the_mean_reading_of_the_drifting_device_rises() -> None:
    def mean(drop: Drop) -> float:
        values = [float(line.split(b",")[2]) for line in drop.content.splitlines()[1:]]
        return sum(values) / len(values)

    drifting = [mean(drop) for drop in generated(400) if drop.kind == "drifting"]
    assert len(drifting) > 10
    assert drifting[-1] - drifting[0] > 2


def test_a_half_written_file_is_completed_when_the_next_file_is_written(tmp_path: Path) -> None:
    found = generated(6)
    half = next(drop for drop in found if drop.begun)
    seen: list[bytes] = []

    def pause() -> bool:
        seen.append(written(tmp_path).get(half.name, b""))
        return True

    assert simulate(str(tmp_path), iter(found), pause, lambda _: None) == 6
    assert half.begun in seen
    assert seen[-1] == half.content
    assert written(tmp_path) == {drop.name: drop.content for drop in found}


def test_a_stopped_simulation_leaves_no_half_written_file(tmp_path: Path) -> None:
    found = generated(6)
    place = next(place for place, drop in enumerate(found) if drop.begun)
    told: list[str] = []
    assert simulate(str(tmp_path), iter(found), lambda: len(told) <= place, told.append) == place + 1
    assert written(tmp_path) == {drop.name: drop.content for drop in found[: place + 1]}
    assert told[-1] == f"{found[place].name}: completed"


def test_the_error_for_an_unwritable_folder_names_the_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match=r"pump_.* cannot be written to .*/file"):
        simulate(str(tmp_path / "file"), iter(generated(1)), lambda: True, lambda _: None)


def test_the_command_writes_the_files_into_the_landing_zone(tmp_path: Path) -> None:
    arguments = ("demo", "devices", "--files", "9", "--per-minute", "6000")
    done = platform_assets(*arguments, PLATFORM_SENSOR_LANDING_URI=str(tmp_path / "zone"), PLATFORM_HOME=str(tmp_path))
    assert done.code == 0, done.printed
    assert "files written: 9" in done.printed
    assert len(written(tmp_path / "zone")) == 9
    assert {line.rpartition(": ")[2] for line in done.printed.splitlines()} >= {*KINDS, "completed"}
