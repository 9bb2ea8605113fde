"""Label files: labels are stored, bad lines are quarantined with their reasons, and a killed run loses no label."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import psycopg
import pytest
from pydantic import SecretStr

from platform_assets.definitions import resources
from platform_assets.domains.label_files.defs import every_label_is_stored, label_files_landed, labels_incoming
from platform_assets.domains.label_files.settings import LabelFilesSettings
from platform_assets.domains.label_files.sources import LABELS
from platform_assets.monitoring.label_store import Labels
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.instances import empty_instance
from platform_assets_tests.landing.yard import failure
from platform_assets_tests.monitoring.label_history import predicted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TABLE = "label_files/labels_incoming"
MODEL = "credit_risk_model"
HEADER = "model,label,observed_at,request_id,subject,at"
HOUR_AGO = datetime.now(UTC) - timedelta(hours=1)
OBSERVED = HOUR_AGO.isoformat()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "zone"
    folder.mkdir()
    return folder


@pytest.fixture
def services(tmp_path: Path, folder: Path, database_url: str) -> Iterator[Services]:
    settings = Settings(home=tmp_path / "home", database_url=SecretStr(database_url), sources="live")
    zone = LabelFilesSettings(labels_landing_uri=str(folder), labels_settle_seconds=0)
    services = Services(settings, (zone,))
    yield services
    services.close()


def run(services: Services, **others: Any) -> dg.ExecuteInProcessResult:
    with empty_instance() as instance:
        return dg.materialize(
            [labels_incoming, every_label_is_stored],
            resources={**resources(lambda: services), **others},
            instance=instance,
            raise_on_error=False,
        )


def checks(result: dg.ExecuteInProcessResult) -> dict[str, dg.AssetCheckEvaluation]:
    return {check.check_name: check for check in result.get_asset_check_evaluations()}


def drop(folder: Path, name: str, *lines: str, header: str = HEADER) -> None:
    (folder / name).write_text("\n".join([header, *lines, ""]))


def stored(services: Services) -> list[Any]:
    with services.labels.transaction() as connection:
        return connection.execute(
            "select coalesce(request_id, subject), label, sender from platform.labels order by 1, 2"
        ).fetchall()


def states(services: Services) -> set[str]:
    with services.labels.transaction() as connection:
        return {state for (state,) in connection.execute("select state from platform.landing_files").fetchall()}


@pytest.mark.requirement("MON-5", "PLT-6")
def test_labels_are_stored_and_bad_lines_are_kept_with_their_reasons(services: Services, folder: Path) -> None:
    request = uuid.uuid4().hex
    predicted(services.database, request, [None], model=MODEL, at=HOUR_AGO - timedelta(hours=1))
    drop(
        folder,
        "monday.csv",
        f"{MODEL},1,{OBSERVED},{request},,",
        f"{MODEL},0,{OBSERVED},,5008804,2025-06-30T09:00:00+02:00",
        f"{MODEL},2,{OBSERVED},{request},,",
        f"{MODEL},1,2026-01-31T12:00:00,{request},,",
        f"{MODEL},1,{OBSERVED},{request},,2025-06-30T09:00:00Z",
        f"{MODEL},1,2025-01-01T00:00:00Z,,7,2025-06-30T09:00:00Z",
        f"{MODEL},1,{OBSERVED},no-such-request,,",
        f"no_such_model,1,{OBSERVED},{request},,",
        f"{MODEL},1,2199-01-01T00:00:00Z,{request},,",
    )
    # This copy has the same content, so only one of the two files is read.
    (folder / "copy.csv").write_bytes((folder / "monday.csv").read_bytes())
    result = run(services)
    assert result.success, failure(result)
    assert sorted(stored(services)) == sorted([(request, 1, "copy.csv"), ("5008804", 0, "copy.csv")])
    bad = services.tables.read(f"{TABLE}_quarantine").sort_values("line")
    assert dict(zip(bad["line"], bad["broken_rules"], strict=True)) == {
        5: "observed_at_is_of_type_timestamp('UTC'), observed_at_is_present",
        6: "request_id_is_null_with_at",
        7: "observed_at_is_at_least_at",
    }
    check = checks(result)["every_label_is_stored"]
    assert (check.passed, check.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert check.metadata["refused_labels"].value == 4
    told: Any = check.metadata["last_refused"].value
    assert [line.split(": ")[0] for line in told] == [
        f"copy.csv, line 4, {MODEL}",
        f"copy.csv, line 8, {MODEL}",
        "copy.csv, line 9, no_such_model",
        f"copy.csv, line 10, {MODEL}",
    ]
    assert "the label is 2; send 0 or 1" in told[0]
    assert "with the request id no-such-request" in told[1]
    assert "there is no model no_such_model; the models are" in told[2]
    assert "in the future" in told[3]
    assert states(services) == {"processed"}


@pytest.mark.requirement("MON-5")
def test_a_file_needs_only_the_columns_that_its_labels_use(services: Services, folder: Path) -> None:
    drop(folder, "a.csv", f"{MODEL},1,{OBSERVED},7,{OBSERVED}", header="model,label,observed_at,subject,at")
    drop(folder, "b.csv", f"{MODEL},1", header="model,label")
    result = run(services)
    assert result.success, failure(result)
    assert stored(services) == [("7", 1, "a.csv")]
    assert states(services) == {"processed", "set_aside"}
    assert checks(result)["every_label_is_stored"].passed


@pytest.mark.requirement("MON-5")
def test_a_correction_in_a_later_file_supersedes_the_label(services: Services, folder: Path) -> None:
    at = (HOUR_AGO - timedelta(hours=1)).isoformat()
    drop(folder, "a.csv", f"{MODEL},1,{at},,7,{at}")
    run(services)
    drop(folder, "b.csv", f"{MODEL},0,{OBSERVED},,7,{at}")
    assert run(services).success
    history = services.labels.history(MODEL, subject="7")
    assert [(one.label, one.standing) for one in history] == [(0, "current"), (1, "superseded")]


@pytest.mark.requirement("MON-5", "PLT-12")
def test_no_label_is_lost_if_a_run_fails_before_it_stores_the_labels(services: Services, folder: Path) -> None:
    drop(folder, "a.csv", f"{MODEL},1,{OBSERVED},,7,{OBSERVED}")

    def vanished() -> Any:
        raise psycopg.OperationalError("the server closed the connection")

    result = run(services, labels=dg.ResourceDefinition.hardcoded_resource(Labels(vanished)))
    assert "the server closed the connection" in failure(result)
    assert len(services.tables.read(TABLE)) == 1
    assert stored(services) == []
    assert states(services) == {"landed"}
    for _ in range(2):
        assert run(services).success
        assert stored(services) == [("7", 1, "a.csv")]
        assert states(services) == {"processed"}


@pytest.mark.requirement("MON-5", "PLT-2")
def test_the_sensor_launches_the_job_for_waiting_files(services: Services, folder: Path) -> None:
    def launched() -> int:
        with empty_instance() as instance:
            context = dg.build_sensor_context(instance=instance, resources={"zones": services.zones})
            return len(label_files_landed.evaluate_tick(context).run_requests or ())

    assert launched() == 0
    drop(folder, "a.csv", f"{MODEL},1,{OBSERVED},,7,{OBSERVED}")
    assert launched() == 1
    run(services)
    assert launched() == 0


@pytest.mark.requirement("PLT-3")
def test_demo_sources_use_an_empty_folder_if_no_landing_zone_is_set(tmp_path: Path, database_url: str) -> None:
    settings = Settings(home=tmp_path / "home", database_url=SecretStr(database_url))
    services = Services(settings, (LabelFilesSettings(),))
    result = run(services)
    assert result.success, failure(result)
    assert services.tables.read(TABLE).empty
    assert list((tmp_path / "home" / "landing" / LABELS.name).iterdir()) == []
    services.close()
