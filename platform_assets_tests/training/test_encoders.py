"""Training with a sentence encoder: when candidates that use it take part, and how versions record the encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from platform_assets.base.errors import SourceError
from platform_assets.domains.sentence_relevance.settings import SentenceRelevanceSettings
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.landing.declared_sources import Sources
from platform_assets.models import sentence_encoder
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.sentence_encoder import missing_libraries
from platform_assets.settings import Settings
from platform_assets.training.binary_classification import REFERENCE
from platform_assets.training.encoders import Encoders
from platform_assets.training.fingerprints import fingerprint_parts
from platform_assets.training.model_spec import Candidate, DeclaredEncoder
from platform_assets.training.trainer import Trainer
from platform_assets_tests.models import tiny_encoder
from platform_assets_tests.training.breakage_model import TABLE
from platform_assets_tests.training.test_explanations import TELLING, TEXT_SPEC, messages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [
    pytest.mark.requirement("REL-2"),
    pytest.mark.skipif(bool(missing_libraries()), reason="needs the extra encoder: make test EXTRAS=encoder"),
]
WORDS = [word for words in TELLING.values() for word in words]
ENCODER = DeclaredEncoder(SentenceRelevanceSettings, "sentences_encoder_uri", "vectors__encoder")


def base_rate(seed: int) -> Any:
    """Return a model that predicts the base rate for every text, so that any other candidate is better."""
    from sklearn.dummy import DummyClassifier
    from sklearn.pipeline import Pipeline

    from platform_assets.models.text_estimators import TextCleaner

    return Pipeline([("clean", TextCleaner()), ("model", DummyClassifier(random_state=seed))])


def with_vectors(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import Pipeline

    from platform_assets.models.text_estimators import SentenceVectors, TextCleaner

    model = LogisticRegression(random_state=seed)
    return Pipeline([("clean", TextCleaner()), ("vectors", SentenceVectors()), ("model", model)])


BASE = replace(TEXT_SPEC, candidates=(Candidate("no words", base_rate),), explanations=())
SPEC = replace(BASE, candidates=(*BASE.candidates, Candidate("vectors", with_vectors, {}, ENCODER)))


class Bench:
    """A trainer whose table, a set of sample messages, is already published. It reads the encoder from a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engine = Engine(folder / "scratch")
        self.tables = TableStore(MEMORY, self.engine)
        self.artefacts = ArtefactStore(str(folder))
        self.registry = MemoryRegistry()
        self.lines: list[str] = []
        with self.engine.stage(messages()) as staged:
            self.tables.publish(TABLE, staged, metadata={"demo": False})

    def trainer(self, uri: str) -> Trainer:
        sources = Sources(Settings(home=self.folder), (SentenceRelevanceSettings(sentences_encoder_uri=uri),))
        encoders = Encoders(sources, self.artefacts, self.folder / "scratch")
        return Trainer(self.tables, self.artefacts, self.registry, encoders)

    def train(self, uri: str) -> Any:
        return self.trainer(uri).train(SPEC, "user", self.lines.append)


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(sentence_encoder, "_OPEN", {})
    bench = Bench(tmp_path / "bench")
    yield bench
    bench.engine.close()


def test_the_encoder_candidate_takes_part_and_the_version_records_the_encoder_digest(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = bench.train(str(tiny_encoder.write(tmp_path / "encoder", WORDS)))
    assert training.record["candidate"] == "vectors"
    digest = training.record["parameters"]["vectors__encoder"]
    assert bench.artefacts.read_encoder(digest)
    assert training.version.parameters["vectors__encoder"] == digest
    assert f"PLATFORM_SENTENCES_ENCODER_URI, digest {digest}" in training.record["card"]
    # Another process, whose setting is empty, reproduces the version with the stored encoder.
    monkeypatch.setattr(sentence_encoder, "_OPEN", {})
    found = bench.trainer("").reproduce(SPEC, training.version.version, bench.lines.append)
    assert (found.largest_difference, found.changed) == (0, ())


def test_a_different_encoder_gives_a_new_version(bench: Bench, tmp_path: Path) -> None:
    folder = tiny_encoder.write(tmp_path / "encoder", WORDS)
    first = bench.train(f"file://{folder}/")
    assert not bench.train(str(folder)).is_new
    tiny_encoder.write(folder, WORDS, seed=1)
    second = bench.train(str(folder))
    assert second.is_new
    assert second.record["parameters"]["vectors__encoder"] != first.record["parameters"]["vectors__encoder"]


def test_without_the_setting_the_encoder_candidate_is_left_out_and_the_fingerprint_is_unchanged(bench: Bench) -> None:
    training = bench.train("")
    assert {line["candidate"] for line in training.record["leaderboard"]} == {"no words", REFERENCE}
    assert "candidates with a sentence encoder are left out, because PLATFORM_SENTENCES_ENCODER_URI is not set" in (
        bench.lines
    )
    parts = fingerprint_parts(BASE, training.version.table_digests)
    assert training.version.tags["code_digest"] == parts["code"]
    assert training.version.tags["parameters_digest"] == parts["parameters"]


def test_without_the_libraries_the_encoder_candidate_is_left_out(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_encoder.write(tmp_path / "encoder", WORDS)
    monkeypatch.setattr(sentence_encoder, "find_spec", lambda _: None)
    training = bench.train(str(folder))
    assert training.record["candidate"] != "vectors"
    assert any(
        "because the extra `encoder` is not installed (missing: onnxruntime, tokenizers)" in line
        for line in bench.lines
    )


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_training_fails_with_an_error_that_names_a_damaged_or_missing_encoder_file(
    bench: Bench, tmp_path: Path, name: str
) -> None:
    folder = tiny_encoder.write(tmp_path / "encoder", WORDS)
    (folder / name).write_bytes((folder / name).read_bytes()[:-9])
    with pytest.raises(SourceError, match=f"{name} of the sentence encoder in PLATFORM_SENTENCES_ENCODER_URI"):
        bench.train(str(folder))
    (folder / name).unlink()
    with pytest.raises(SourceError, match=f"{name} .*PLATFORM_SENTENCES_ENCODER_URI.* does not exist"):
        bench.train(str(folder))
    assert bench.registry.versions(SPEC.name) == []
