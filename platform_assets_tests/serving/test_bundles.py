"""Bundles: export of a champion from a real ledger, and refusal of altered bundles."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from sqlalchemy import make_url

from platform_assets.base.errors import ArtefactError, NoChampion
from platform_assets.database.connections import Database
from platform_assets.models import sentence_encoder
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.sentence_encoder import missing_libraries, open_encoder, pack
from platform_assets.serving.bundles import FILE, Bundle, BundledChampion, BundleError, export, open_bundle
from platform_assets.serving.champion_source import metrics_of
from platform_assets.serving.live_models import LiveModel, LiveModels
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import ANNA, MODEL, prepared
from platform_assets_tests.models import tiny_encoder
from platform_assets_tests.postgres import empty_databases, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(scope="module")
def works(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Works]:
    with empty_databases(postgres_server) as url:
        database = Database(make_url(url))
        works = Works(prepared(database), MemoryRegistry(), tmp_path_factory.mktemp("lake"), database.lock)
        crown(works, "first")
        yield works
        database.close()


def crown(works: Works, fingerprint: str, **options: Any) -> None:
    version = works.train(fingerprint, **options)
    request = works.ask(version)
    evidence = {**request.evidence, "demo": True}
    works.ledger.decide(request.id, "withdraw", ANNA, "asked again with more evidence")
    works.promoter.promote(works.approve(version, evidence=evidence))


def live_model(bundle: Bundle, name: str = MODEL) -> LiveModel:
    models = LiveModels(BundledChampion(bundle))
    models.start([name])
    wait_until(lambda: models.state()[name].looked_at, "the champion was looked up")
    models.close()
    return models.live(name)


@pytest.fixture
def bundle(works: Works, tmp_path: Path) -> Bundle:
    return export(works.ledger, works.artefacts, MODEL, tmp_path / "bundle")


@pytest.mark.requirement("REL-3")
def test_a_bundle_contains_all_that_is_needed_to_serve_the_champion(works: Works, bundle: Bundle) -> None:
    champion = works.ledger.champion(MODEL)
    assert champion is not None
    found = open_bundle(bundle.folder)
    assert (found.model, found.version, found.digest, found.threshold, found.approval_id, found.demo) == (
        MODEL,
        champion.version,
        champion.digest,
        champion.threshold,
        champion.request_id,
        True,
    )
    [approved] = found.approved
    assert approved.startswith("approved by anna at ")
    assert approved.endswith("UTC: better")
    assert found.evidence["verdict"]["passed"] is True
    theirs = works.artefacts.load(champion.digest)
    live = live_model(found)
    assert (live.version, live.approval_id, live.demo) == (champion.version, champion.request_id, True)
    assert live.metrics == metrics_of(found.evidence) != {}
    assert np.array_equal(live.scores(theirs.golden_rows), theirs.golden_scores)


@pytest.mark.requirement("REL-3")
def test_bundles_committed_for_container_images_reproduce_their_golden_scores() -> None:
    committed = list((Path(__file__).parents[2] / "docker").glob(f"*/{FILE}"))
    assert committed
    for path in committed:
        bundle = open_bundle(path.parent)
        assert bundle.store.load(bundle.digest).features == ("text",)


def test_a_second_export_replaces_the_bundle_and_leaves_one_model_file(works: Works, bundle: Bundle) -> None:
    crown(works, "second")
    newer = export(works.ledger, works.artefacts, MODEL, bundle.folder)
    assert newer.digest != bundle.digest
    assert open_bundle(bundle.folder) == newer
    assert [file.stem for file in (bundle.folder / "models").iterdir()] == [newer.digest]
    assert sorted(file.name for file in bundle.folder.iterdir()) == [FILE, "models"]


def test_a_model_without_a_champion_is_not_exported(works: Works, tmp_path: Path) -> None:
    with pytest.raises(
        BundleError, match="other_model has no champion to export; train the model, approve its request"
    ):
        export(works.ledger, works.artefacts, "other_model", tmp_path / "bundle")


def test_export_refuses_a_folder_with_other_files_and_leaves_it_unchanged(works: Works, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BundleError, match="contains files that are not part of a bundle; choose a new or empty folder"):
        export(works.ledger, works.artefacts, MODEL, tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.requirement("REL-3")
def test_a_bundle_with_an_altered_model_file_is_refused(bundle: Bundle) -> None:
    [file] = (bundle.folder / "models").iterdir()
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(ArtefactError, match="was altered: the digest of its"):
        open_bundle(bundle.folder)


def test_a_bundle_provides_a_champion_only_for_its_own_model(bundle: Bundle) -> None:
    with pytest.raises(NoChampion, match="other_model has no champion"):
        live_model(bundle, "other_model")


def set_request(name: str, value: str) -> Callable[[dict[str, Any]], None]:
    return lambda written: written["request"].update({name: value})


def exchange(one: str, other: str) -> Callable[[dict[str, Any]], None]:
    """Return a function that swaps the names of two request fields; the order of the values does not change."""
    names = {one: other, other: one}

    def altered(written: dict[str, Any]) -> None:
        written["request"] = {names.get(name, name): text for name, text in written["request"].items()}

    return altered


@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (set_request("threshold", "0.01"), "was altered: its hashes do not match"),
        (set_request("digest", "0" * 64), "was altered: its hashes do not match"),
        (lambda written: written["events"][-1].update(actor="eve"), "was altered"),
        (lambda written: written["events"].clear(), "was altered"),
        (exchange("model", "launched_by"), "was altered"),
        (exchange("digest", "champion_digest"), "was altered"),
        (lambda written: written["events"].pop(), "was not promoted"),
        (lambda written: written.update(threshold=0.01), "differs from its approval record"),
        (lambda written: written.update(demo=False), "differs from its approval record"),
        (lambda written: written.update(bundle=2), "has format 2; this release reads format 1"),
        (lambda written: written.pop("request"), "does not describe a bundle"),
        (lambda written: written.update(request=[]), "was altered"),
        (lambda written: written.update(events=["approve"]), "was altered"),
    ],
)
def test_a_bundle_with_an_altered_description_is_refused(
    bundle: Bundle, alter: Callable[[dict[str, Any]], Any], told: str
) -> None:
    path = bundle.folder / FILE
    written = json.loads(path.read_text())
    alter(written)
    path.write_text(json.dumps(written))
    with pytest.raises(BundleError, match=told) as error:
        open_bundle(bundle.folder)
    assert "export it again: `platform-assets export MODEL DIR`" in str(error.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "null", '"bundle"', "\x00"])
def test_a_file_that_does_not_describe_a_bundle_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    with pytest.raises(BundleError, match="does not describe a bundle"):
        open_bundle(tmp_path)


def test_the_error_for_a_missing_bundle_names_folder_and_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"there is no bundle in .* \(No such file or directory: bundle.json\)"):
        open_bundle(tmp_path / "nowhere")


@pytest.mark.requirement("REL-2", "REL-3")
@pytest.mark.skipif(bool(missing_libraries()), reason="needs the extra encoder: make test EXTRAS=encoder")
def test_a_bundle_contains_the_sentence_encoder_of_its_model(
    works: Works, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["fire", "love"]
    digest = works.artefacts.add_encoder(pack(tiny_encoder.graph(len(words)), tiny_encoder.tokenizer(words)))
    open_encoder(digest, works.artefacts.read_encoder, "the encoder")
    name = "urgency_model"
    crown(works, "first", model=name, fitted=tiny_encoder.classifier(digest))
    bundle = export(works.ledger, works.artefacts, name, tmp_path / "bundle")
    monkeypatch.setattr(sentence_encoder, "_OPEN", {})
    model = open_bundle(bundle.folder).store.load(bundle.digest)
    assert model.scores([{"text": "fire"}])[0] > model.scores([{"text": "love"}])[0]
    (bundle.folder / "models" / f"{digest}.encoder").unlink()
    with pytest.raises(ArtefactError, match="sentence encoder's file"):
        bundle.store.load(bundle.digest)
