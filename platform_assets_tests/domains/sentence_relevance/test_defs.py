"""Dagster runs that build both tables from sample data, bad rows, broken archives and the real archive."""

from __future__ import annotations

import base64
import gzip
import hashlib
import tarfile
from contextlib import closing
from typing import TYPE_CHECKING, Any

import dagster as dg
import pandas as pd
import pytest

from platform_assets import definitions
from platform_assets.definitions import resources
from platform_assets.domains.sentence_relevance import schemas
from platform_assets.domains.sentence_relevance.defs import archived_sentences, sentences
from platform_assets.domains.sentence_relevance.schemas import LABELS
from platform_assets.domains.sentence_relevance.settings import SentenceRelevanceSettings
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.landing.declared_sources import Sources
from platform_assets.services import Services
from platform_assets.settings import Settings
from platform_assets_tests.archives import TABLE, archive, database, labelled, pack, tar
from platform_assets_tests.instances import empty_instance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from platform_assets.base.frames import Frame

    Run = Callable[..., "Outcome"]

ARCHIVED, SENTENCES = "archived_sentences", "sentences"


class Outcome:
    """Results of a run that materialises both assets."""

    def __init__(self, services: Services, result: dg.ExecuteInProcessResult) -> None:
        self.services = services
        self.success = result.success
        warnings = [one for one in result.get_asset_check_evaluations() if not one.passed]
        self.failed = {one.check_name: str(one.description) for one in warnings}
        events = [event for event in result.all_events if event.is_step_materialization]
        self.metadata: dict[str, dict[str, Any]] = {
            event.materialization.asset_key.path[-1]: {
                name: value.value for name, value in event.materialization.metadata.items()
            }
            for event in events
        }
        self.failures = [str(event.step_failure_data.error) for event in result.all_events if event.is_step_failure]

    def table(self, name: str) -> Frame:
        return self.services.tables.read(f"sentence_relevance/{name}")


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    opened: list[Services] = []

    def materialise(source: Path | str = "", **more: Any) -> Outcome:
        settings = Settings(home=tmp_path / "home", lake_uri=str(tmp_path / "lake"), **more)
        services = Services(settings, (SentenceRelevanceSettings(sentences_archive_uri=str(source)),))
        opened.append(services)
        with empty_instance() as instance:
            given = resources(lambda: services)
            result = dg.materialize(
                [archived_sentences, sentences], resources=given, instance=instance, raise_on_error=False
            )
            return Outcome(services, result)

    yield materialise
    for services in opened:
        services.close()


@pytest.mark.requirement("REL-1", "REL-2", "PLT-1", "PLT-6")
def test_sample_data_produce_both_tables(run: Run) -> None:
    outcome = run(demo_rows=1_200)
    assert outcome.success, outcome.failures
    assert outcome.metadata[SENTENCES]["demo"] is True
    assert outcome.metadata[ARCHIVED]["quarantined_rows"] == 7
    assert dict(outcome.metadata[ARCHIVED]["quarantined_by_rule"]) == {
        "choose_one_is_a_known_value": 1,
        "class_label_follows_from_choose_one": 2,
        "index_is_present": 1,
        "index_is_unique": 2,
        "text_has_a_word": 1,
        "text_is_of_type_string": 1,
        "text_is_present": 1,
    }
    assert outcome.failed
    assert all(one.endswith("the sample data contain such rows on purpose") for one in outcome.failed.values())
    table, told = outcome.table(SENTENCES), outcome.metadata[SENTENCES]
    assert len(table) == len(outcome.table(ARCHIVED)) == 1_193
    assert told["learned_from"] == table["relevant"].notna().sum() == table["set_aside"].isna().sum()
    for reason in ("undecided", "conflicting labels", "repeat"):
        assert told[f"set_aside_{reason.replace(' ', '_')}"] == (table["set_aside"] == reason).sum() > 0
    assert told["groups_of_near_duplicates"] > 10


@pytest.mark.requirement("REL-1", "PLT-6")
def test_bad_rows_are_quarantined_with_their_line_numbers_and_good_rows_are_published(run: Run, tmp_path: Path) -> None:
    rows: list[tuple[Any, ...]] = [
        *labelled(("a fire in the north", "Relevant"), ("my song", "Not Relevant"), ("so so", "Can't Decide")),
        (3, " \n\u00a0", "Relevant", 1),
        (4, "a flood", "Perhaps", 1),
        (5, "a storm", "Relevant", 0),
        (6, None, "Relevant", 1),
        (None, "a quake", "Relevant", 1),
        ("seven", "a quake", "Relevant", 1),
        (8, b"\xff\xfe", "Relevant", 1),
        (9, "one", "Relevant", 1),
        (9, "two", "Relevant", 1),
        (10, "twin", "Relevant", 1),
        (10, "twin", "Relevant", 1),
        (-1, "below", "Relevant", 1),
    ]
    file = tmp_path / "db.tar.gz"
    file.write_bytes(pack(database(tmp_path, rows)))
    outcome = run(file, max_bad_rows=0.9)
    assert outcome.success, outcome.failures
    assert outcome.table(SENTENCES)["sentence_id"].tolist() == [0, 1, 2, 10]
    bad = outcome.table(f"{ARCHIVED}_quarantine").sort_values("source_line")
    assert dict(zip(bad["source_line"], bad["broken_rules"], strict=True)) == {
        4: "text_has_a_word",
        5: "choose_one_is_a_known_value, class_label_follows_from_choose_one",
        6: "class_label_follows_from_choose_one",
        7: "text_is_present",
        8: "index_is_present",
        9: "index_is_a_whole_number, index_is_present",
        10: "text_is_of_type_string, text_is_present",
        11: "index_is_unique",
        12: "index_is_unique",
        15: "index_is_not_negative",
    }
    assert outcome.metadata[ARCHIVED]["identical_rows_dropped"] == 1
    [unread] = bad[bad["source_error"] != ""]["source_error"]
    assert unread == "not in UTF-8: text"


BROKEN = [
    (b"Dear colleagues", "is not a compressed tar archive"),
    (gzip.compress(tar({"a": b"", "b": b""})), "contains several files"),
    (pack(b"no database"), "is not a SQLite database"),
    (None, "does not exist; point PLATFORM_SENTENCES_ARCHIVE_URI at a file"),
]


@pytest.mark.requirement("REL-1")
def test_a_broken_archive_fails_with_a_one_line_error_and_keeps_the_last_good_tables(run: Run, tmp_path: Path) -> None:
    first = run(archive(tmp_path, ("a fire", "Relevant"), ("a song", "Not Relevant")))
    assert first.success, first.failures
    broken = tmp_path / "broken"
    for content, message in BROKEN:
        if content is None:
            broken.unlink()
        else:
            broken.write_bytes(content)
        outcome = run(broken)
        assert not outcome.success
        [failure] = outcome.failures
        assert f"{broken} (PLATFORM_SENTENCES_ARCHIVE_URI) {message}" in failure
        assert "Traceback" not in failure
        assert outcome.table(SENTENCES).equals(first.table(SENTENCES))
        assert [path for path in outcome.services.scratch.rglob("*") if path.name in {"file", "unpacked", "text"}] == []


@pytest.mark.requirement("REL-1")
def test_the_error_for_an_archive_over_the_size_limit_names_the_setting(run: Run, tmp_path: Path) -> None:
    outcome = run(archive(tmp_path, ("a fire", "Relevant")), archive_max_bytes=1_000)
    assert "has more than 1,000 bytes when unpacked" in outcome.failures[0]
    assert "raise PLATFORM_ARCHIVE_MAX_BYTES" in outcome.failures[0]


@pytest.mark.requirement("REL-1")
def test_the_error_for_a_missing_column_names_the_column(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "db.tar.gz"
    file.write_bytes(pack(database(tmp_path, [], TABLE.replace("choose_one", "chosen"))))
    assert (
        "the table 'data' lacks the columns ['choose_one']; it has ['index', 'text', 'chosen'," in run(file).failures[0]
    )


@pytest.mark.requirement("REL-1", "REL-2")
def test_the_real_archive_gives_the_documented_counts(run: Run, real_data: Path) -> None:
    outcome = run(real_data / "sentences" / "db.sqlite.base64.tar.gz", sources="live")
    assert outcome.success, outcome.failures
    assert outcome.failed == {}
    archived, told = outcome.table(ARCHIVED), outcome.metadata[ARCHIVED]
    assert told["source_digest"].startswith("0e7cc56461bc52da")
    assert (told["quarantined_rows"], told["demo"]) == (0, False)
    assert archived["index"].tolist() == list(range(9_282))
    assert archived["choose_one"].value_counts().to_dict() == {
        "Not Relevant": 5_396,
        "Relevant": 3_874,
        "Can't Decide": 12,
    }
    assert (archived["choose_one"].map(LABELS) == archived["class_label"]).all()
    assert archived["text"].duplicated().sum() == 566
    assert (archived.groupby("text")["choose_one"].nunique() > 1).sum() == 72
    told = outcome.metadata[SENTENCES]
    # More sentences are repeated or conflicting than in the raw archive, because more texts are equal after cleaning.
    assert {name: told[name] for name in told if name.startswith(("learned", "relevant", "set_aside"))} == {
        "learned_from": 8_495,
        "relevant": 3_442,
        "set_aside_undecided": 12,
        "set_aside_conflicting_labels": 287,
        "set_aside_repeat": 488,
        "set_aside_no_words": 0,
    }
    assert (told["groups_of_near_duplicates"], told["rows_in_these_groups"], told["largest_group"]) == (353, 1_143, 21)
    table = outcome.table(SENTENCES)
    assert table["topic"].nunique() == 10
    assert table["words"].between(1, 40).all()


@pytest.mark.requirement("PLT-2", "REL-4")
def test_the_sensor_trains_the_model_when_the_archive_changes(tmp_path: Path) -> None:
    repository = definitions.defs().get_repository_def()
    sensor = repository.get_sensor_def("sentence_relevance_archive_changed")
    assert sensor.job_name == "train_sentence_relevance_model"
    assert repository.has_job(sensor.job_name)
    first, second = [("a fire", "Relevant")], [("a fire", "Relevant"), ("my song", "Not Relevant")]
    cursor, launched = None, []
    engine = Engine(tmp_path / "scratch")
    tables = TableStore(MEMORY, engine)
    with empty_instance() as instance, closing(engine):
        for made_from, texts in ((None, first), (first, first), (first, second)):
            if made_from:
                digest = hashlib.sha256(unpacked(archive(tmp_path, *made_from))).hexdigest()
                with engine.stage(pd.DataFrame({"index": [0]})) as staged:
                    tables.publish(schemas.ARCHIVED_SENTENCES.name, staged, metadata={"source_digest": digest})
            given = SentenceRelevanceSettings(sentences_archive_uri=str(archive(tmp_path, *texts)))
            context = dg.build_sensor_context(
                instance=instance,
                cursor=cursor,
                resources={"sources": Sources(Settings(home=tmp_path), (given,)), "tables": tables},
                repository_def=repository,
            )
            tick = sensor.evaluate_tick(context)
            cursor = tick.cursor
            launched.append(len(tick.run_requests or ()))
    assert launched == [1, 0, 1]


def unpacked(packed: Path) -> bytes:
    """Return the content of the database file in an archive."""
    with tarfile.open(packed) as archive:
        content = archive.extractfile(archive.getmembers()[-1])
        assert content
        return base64.decodebytes(content.read())
