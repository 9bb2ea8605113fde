"""Stored predictions for files: made once by the champion, never changed, and equal in PostgreSQL and the lake."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import TYPE_CHECKING

import dagster as dg
import psycopg
import pytest

from platform_assets.domains.sensor_maintenance import demo
from platform_assets.domains.sensor_maintenance.defs import (
    readings_incoming,
    sensor_maintenance_files_landed,
)
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.domains.sensor_maintenance.schemas import DEVICES, PREDICTIONS, READINGS_INCOMING
from platform_assets.domains.sensor_maintenance.sources import INCOMING
from platform_assets.serving.assets import WAITS
from platform_assets.serving.batch_predictions import BatchPredictions, BatchPredictor
from platform_assets.serving.current_champions import CurrentChampions
from platform_assets.serving.stored_predictions import StoredPredictions
from platform_assets_tests.domains.sensor_maintenance import killed_predictions
from platform_assets_tests.domains.sensor_maintenance.plant import THRESHOLD, Plant, model_of, open_plant
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.postgres import owner_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dagster._core.definitions.sensor_definition import SensorExecutionData

    from platform_assets.serving.champion_source import ChampionSource
    from platform_assets.serving.live_models import LiveModel
    from platform_assets_tests.warm import WarmParent

NAMES = [column.name for column in PREDICTIONS.columns]
NEW, OLD = "pump_1/20260301T090000Z.txt", "pump_1/20260228T090000Z.txt"
KEPT = ("file_name", "line", "probability", "model_version")


@pytest.fixture
def plant(tmp_path: Path, database_url: str) -> Iterator[Plant]:
    plant = Plant(open_plant(tmp_path, database_url))
    yield plant
    plant.services.close()


@pytest.mark.requirement("SEN-6")
def test_each_reading_gets_the_score_and_the_decision_of_the_champion(plant: Plant) -> None:
    approval = plant.promote(2.0)
    readings = [(-1.0, 0.0), (0.5, 0.5), (2.5, 0.0), (0.0, -1.5)]
    digest = hashlib.sha256(plant.drop(NEW, *readings)).hexdigest()
    facts = plant.run()
    scores = model_of(2.0).scores([{"sensor_1": one, "sensor_2": two} for one, two in readings]).tolist()
    rows = plant.in_database(*NAMES)
    assert [row[:-1] for row in rows] == [
        (digest, line, NEW, "pump_1", rows[0][4], score, score >= THRESHOLD, THRESHOLD, 1, approval, outside)
        for line, score, outside in zip((2, 3, 4, 5), scores, (False, False, True, True), strict=True)
    ]
    assert rows[0][4].isoformat() == "2026-03-01T09:00:00+00:00"
    assert len({row[-1] for row in rows}) == 1
    assert plant.in_lake(*NAMES) == rows
    assert (facts["predicted_files"], facts["predicted_rows"], facts["model_version"]) == (1, 4, 1)
    assert (facts["approval_id"], facts["dagster/row_count"], WAITS in facts) == (approval, 4, False)
    assert plant.states() == {NEW: "processed"}


@pytest.mark.requirement("SEN-6")
def test_files_wait_until_a_champion_is_promoted_and_then_get_predictions(plant: Plant) -> None:
    plant.drop(NEW, (1.0, 0.0))
    facts = plant.run()
    assert facts[WAITS].startswith(f"1 file is waiting: {MODEL.name} has no champion")
    assert "platform-assets decide approve" in facts[WAITS]
    assert (plant.states(), plant.in_lake(*KEPT)) == ({NEW: "landed"}, [])
    plant.drop(OLD, (0.5, 0.0))
    assert plant.run()[WAITS].startswith("2 files are waiting")
    plant.promote(2.0)
    assert plant.run()["predicted_files"] == 2
    assert set(plant.states().values()) == {"processed"}


@pytest.mark.requirement("SEN-1", "SEN-6")
def test_a_new_champion_predicts_new_files_only(plant: Plant) -> None:
    plant.promote(2.0)
    plant.drop(OLD, (1.0, 0.0))
    plant.run()
    before = plant.in_lake(*NAMES)
    plant.promote(5.0)
    # A file with the same content under another name is treated as the same file.
    plant.drop("pump_2/20260302T090000Z.txt", (1.0, 0.0))
    plant.drop(NEW, (1.0, 0.5))
    plant.run()
    after = plant.in_lake(*NAMES)
    assert plant.in_database(*NAMES) == after
    assert [row for row in after if row in before] == before
    [new] = [row for row in after if row not in before]
    assert (new[2], new[8]) == (NEW, 2)
    versions = len(plant.services.tables.versions(PREDICTIONS.name))
    assert plant.run()["predicted_rows"] == 0
    assert (plant.in_lake(*NAMES), len(plant.services.tables.versions(PREDICTIONS.name))) == (after, versions)


@pytest.mark.requirement("SEN-6")
def test_all_predictions_of_a_run_use_one_model_version_even_if_the_champion_changes(plant: Plant) -> None:
    plant.promote(2.0)
    for minute in range(6):
        plant.drop(f"pump_1/20260301T09{minute:02}00Z.txt", (1.0, minute / 10), (-1.0, minute / 10))
    plant.run(readings_incoming)

    class ChangingChampions(CurrentChampions):
        """A source of champions that promotes a new champion immediately after each load."""

        def load(self, model: str) -> LiveModel:
            live = plant.services.current_champions.load(model)
            plant.promote(5.0)
            return live

    def never() -> ChampionSource:
        raise AssertionError

    database = plant.services.database
    predictor = BatchPredictor(
        BatchPredictions(MODEL.name, READINGS_INCOMING, PREDICTIONS, "needs_maintenance"),
        plant.services.zones.find(INCOMING),
        StoredPredictions(lambda: database, PREDICTIONS),
        ChangingChampions(never),
        database.pooled,
    )
    outcome = predictor.predict(plant.services.tables.scan(READINGS_INCOMING.name), "run", rows_at_once=5)
    assert (outcome.files, outcome.rows, outcome.waiting) == (6, 12, 0)
    stored = plant.in_database("predicted_at", "file_digest", "model_version")
    # Each transaction stores the predictions for two files, four rows in total.
    assert sorted(Counter(at for at, _, _ in stored).values()) == [4, 4, 4]
    assert {version for _, _, version in stored} == {1}
    assert plant.versions == 2


@pytest.mark.requirement("SEN-6")
def test_outside_training_range_is_null_if_the_model_has_no_training_ranges(plant: Plant) -> None:
    plant.promote(2.0, ranges=False)
    plant.drop(NEW, (1.0, 0.0))
    plant.run()
    assert plant.in_lake("outside_training_range") == plant.in_database("outside_training_range") == [(None,)]


@pytest.mark.requirement("SEN-6", "PLT-6")
def test_bad_lines_and_damaged_files_do_not_stop_other_files(plant: Plant) -> None:
    plant.promote(2.0)
    plant.drop(NEW, (1.0, 0.0), ("error", 0.0), (2.0, 0.0))
    plant.drop(OLD, ("error", "error"))
    zone = plant.services.settings.home / "zone"
    (zone / "junk.txt").write_bytes(bytes(range(256)))
    # PostgreSQL cannot index such a long name.
    (zone / "long.csv").write_text(f"device,sensor_1,sensor_2\n{'x' * 10_000},1,2\npump_3,1,2\n")
    plant.run()
    assert plant.in_lake("file_name", "line") == [("long.csv", 3), (NEW, 2), (NEW, 4)]
    assert plant.states() == {NEW: "processed", OLD: "set_aside", "junk.txt": "set_aside", "long.csv": "processed"}


@pytest.mark.requirement("SEN-6")
def test_a_champion_that_cannot_be_loaded_leaves_the_files_waiting(plant: Plant) -> None:
    plant.promote(2.0)
    [digest] = plant.services.artefacts.digests()
    file = plant.services.settings.home / "lake" / "models" / f"{digest}.skops"
    content = file.read_bytes()
    file.write_bytes(content + b" ")
    plant.drop(NEW, (1.0, 0.0))
    with pytest.raises(dg.Failure, match=f"{digest}.* was altered"):
        plant.run()
    assert plant.states() == {NEW: "landed"}
    file.write_bytes(content)
    plant.run()
    assert plant.states() == {NEW: "processed"}


@pytest.mark.requirement("SEN-6")
def test_predictions_lost_from_the_lake_are_restored_from_the_database(plant: Plant, tmp_path: Path) -> None:
    plant.promote(2.0)
    for name in (OLD, NEW):
        plant.drop(name, (1.0, float(name == NEW)))
        plant.run()
    expected = plant.in_database(*NAMES)
    # Remove the table from the lake, as after restoring the lake from an older backup.
    table = tmp_path / "lake" / PREDICTIONS.name
    table.rename(tmp_path / "lost")
    plant.run()
    assert plant.in_lake(*NAMES) == expected


@pytest.mark.requirement("SEN-6", "PLT-10")
def test_predictions_lost_from_the_database_are_restored_from_the_lake(plant: Plant, database_url: str) -> None:
    plant.promote(2.0)
    plant.drop(OLD, (1.0, 0.0))
    plant.run()
    plant.drop(NEW, (1.0, 0.5), ("error", 0.0))
    plant.run()
    expected = plant.in_lake(*NAMES)
    with psycopg.connect(owner_of(database_url)) as owner:
        owner.execute("set session_replication_role = replica")
        owner.execute("delete from sensor_maintenance.predictions where file_name = %s", [NEW])
        owner.execute("update platform.landing_files set state = 'landed' where names[1] = %s", [NEW])
    plant.promote(5.0)
    plant.run()
    assert plant.in_database(*NAMES) == plant.in_lake(*NAMES) == expected
    assert set(plant.states().values()) == {"processed"}


@pytest.mark.requirement("SEN-6", "PLT-2")
def test_the_sensor_reports_files_that_wait_for_a_champion_and_launches_a_run_after_a_promotion(plant: Plant) -> None:
    def tick() -> SensorExecutionData:
        resources = {"zones": plant.services.zones, "ledger": plant.services.ledger}
        with empty_instance() as instance:
            context = dg.build_sensor_context(instance=instance, resources=resources)
            return sensor_maintenance_files_landed.evaluate_tick(context)

    plant.drop(NEW, (1.0, 0.0))
    plant.run()
    waits = tick()
    assert not waits.run_requests
    assert f"landed but not processed: 1 ({MODEL.name} has no champion" in str(waits.skip_message)
    plant.promote(2.0)
    assert len(tick().run_requests or []) == 1
    plant.run()
    done = tick()
    assert not done.run_requests
    assert "landed but" not in str(done.skip_message)


@pytest.mark.requirement("SEN-6")
def test_the_newest_decision_is_stored_for_each_device(plant: Plant) -> None:
    plant.promote(2.0)
    plant.drop(NEW, (1.0, 0.0), (-1.0, 0.0))
    plant.drop("pump_2/20260301T090000Z.txt", (2.0, 0.0))
    plant.run()
    # An older reading arrives late.
    plant.drop(OLD, (0.5, 0.0))
    plant.run()
    rows = plant.services.online.read(DEVICES.name).to_pylist()
    found = {row["device"]: (row["file_name"], row["line"], row["needs_maintenance"]) for row in rows}
    assert found == {"pump_1": (NEW, 3, False), "pump_2": ("pump_2/20260301T090000Z.txt", 2, True)}


@pytest.mark.requirement("MON-2", "OPS-4")
def test_a_check_reports_the_silent_device_of_the_sample_data_until_it_sends_a_reading(plant: Plant) -> None:
    plant.promote(2.0)
    demo.write_incoming(plant.services.settings.home / "zone")
    result = plant.evaluation("devices_are_reporting")
    assert not result.passed
    assert result.severity == dg.AssetCheckSeverity.ERROR
    assert result.description == "silent devices: 1; device_02: no reading since 2026-01-07 05:02 UTC"
    plant.drop("device_02/20260112T060000Z.txt", (1.0, 0.0))
    assert plant.evaluation("devices_are_reporting").passed


def test_a_check_escapes_and_shortens_the_name_of_a_silent_device(plant: Plant) -> None:
    plant.promote(2.0)
    plant.drop("pump_1\n\x1b[2J" + "x" * 150 + "/20260301T090000Z.txt", (1.0, 0.0))
    plant.drop("pump_2/20260311T090000Z.txt", (2.0, 0.0))
    result = plant.evaluation("devices_are_reporting")
    told = "pump_1\\n\\x1b[2J" + "x" * 85 + ": no reading since 2026-03-01 09:00 UTC"
    assert result.description == f"silent devices: 1; {told}"
    assert result.metadata["longest_silence"].value == [told]


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.requirement("SEN-1", "SEN-6")
def test_the_next_run_completes_a_run_that_was_killed_at_any_call(
    warm: WarmParent, database_url: str, tmp_path: Path
) -> None:
    with warm.start(killed_predictions.main, database_url, tmp_path) as process:
        found = [line.rstrip().split(" ", 1) for line in process.stdout]
        assert process.wait() == 0
    assert [told for _, told in found] == ["consistent"] * (len(found) - 1) + ["completed"]
    assert len(found) > 30
