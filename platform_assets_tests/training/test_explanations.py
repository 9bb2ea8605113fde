"""Explanations of models, and training of a text model from table to artefact."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from platform_assets.base.errors import TrainingError
from platform_assets.engine.query_engine import Engine
from platform_assets.evaluation.gate import Criterion
from platform_assets.evaluation.split_rules import GroupSplit
from platform_assets.evaluation.splits import Holdout
from platform_assets.evaluation.thresholds import best_f1
from platform_assets.lake.delta_tables import MEMORY, TableStore
from platform_assets.lake.schemas import Column
from platform_assets.models import mlflow_copy
from platform_assets.models.artefact_store import ArtefactStore
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.training import explanations
from platform_assets.training import metadata as model_metadata
from platform_assets.training.binary_classification import BinaryClassification
from platform_assets.training.explanations import Explanation, HeldOut, decision_surface, top_words
from platform_assets.training.fitting import feature_frame
from platform_assets.training.model_spec import Candidate
from platform_assets.training.trainer import MOST_ERRORS, Trainer
from platform_assets_tests.training.breakage_model import SPEC, TABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from platform_assets.training.training_results import Training

TELLING = {1: ["fire", "flood", "killed"], 0: ["love", "party", "lol"]}


def messages(rows: int = 900) -> pd.DataFrame:
    """Return labelled messages in which some words are informative. The first message is empty."""
    random = np.random.default_rng(3)
    urgent = random.integers(0, 2, rows)
    texts = []
    for label in urgent:
        honest = label if random.random() < 0.85 else 1 - label
        words = [*random.choice(TELLING[honest], 2), *random.choice(["the", "a", "now", "here", "City"], 4)]
        texts.append(" ".join(random.permutation(words)) + " http://t.co/x |_*<b>")
    texts[0] = ""
    return pd.DataFrame({"message": np.arange(rows), "text": texts, "urgent": urgent, "writer": np.arange(rows) % 300})


def words_and_letters(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline, make_union

    from platform_assets.models.text_estimators import CompactTfidf, TextCleaner

    union = make_union(CompactTfidf(token_pattern=r"\S+"), CompactTfidf(analyzer="char_wb", ngram_range=(3, 3)))
    return make_pipeline(TextCleaner(), union, LogisticRegression(random_state=seed))


def examples(table: Any) -> Any:
    return table


TEXT_SPEC = replace(
    SPEC,
    key="somewhere/urgency_model",
    examples=examples,
    id="message",
    features=(Column("text", "string", "What was written."),),
    label="urgent",
    task=BinaryClassification(positive="urgent", threshold=best_f1()),
    split=GroupSplit("writer", holdout=Holdout(groups=0.3)),
    subgroups=(),
    candidates=(Candidate("words and letters", words_and_letters),),
    ranked_by="average_precision",
    criteria=(Criterion("f1", at_least=0.7),),
    explanations=(top_words("text"),),
    error_columns=("message", "text"),
)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Training, ArtefactStore]]:
    folder = tmp_path_factory.mktemp("text")
    engine = Engine(folder / "scratch")
    tables = TableStore(MEMORY, engine)
    with engine.stage(messages()) as staged:
        tables.publish(TABLE, staged, metadata={"demo": False})
    artefacts = ArtefactStore(str(folder))
    yield Trainer(tables, artefacts, MemoryRegistry()).train(TEXT_SPEC, "user", lambda _: None), artefacts
    engine.close()


@pytest.mark.requirement("REL-2")
def test_a_text_model_can_be_trained_and_loaded(trained: tuple[Training, ArtefactStore]) -> None:
    training, artefacts = trained
    assert training.assessment.verdict.passed
    assert training.version.metrics["f1"] > 0.75
    model = artefacts.load(training.version.digest)
    assert model.golden_rows.dtypes.astype(str).to_dict() == {"text": "str"}
    rows = pd.DataFrame({"text": ["Flood! http://t.co/1 @you", "flood", "love", None, "", "\N{FIRE}"]})
    scores = model.scores(rows)
    assert scores[0] == scores[1] > training.version.threshold > scores[2]
    assert scores[3] == scores[4] == scores[5]
    assert model.scores(rows.astype(object)).tolist() == scores.tolist()


def test_text_features_are_strings_and_numeric_features_are_floats() -> None:
    numbers = (Column("urgent", "int64", "A number."), Column("writer", "uint16", "Another number."))
    spec = replace(TEXT_SPEC, features=(*TEXT_SPEC.features, *numbers))
    frame = feature_frame(messages(3).astype({"text": object}), spec)
    assert frame.dtypes.astype(str).to_dict() == {"text": "str", "urgent": "float64", "writer": "float64"}


@pytest.mark.requirement("REL-2", "PRO-1")
def test_mlflow_can_load_the_copy_of_a_text_model(trained: tuple[Training, ArtefactStore], tmp_path: Path) -> None:
    from mlflow.models import Model

    training, artefacts = trained
    mlflow_copy.save_copy(artefacts.load(training.version.digest), tmp_path / "copy", "run")
    copy = Model.load(str(tmp_path / "copy"))
    assert copy.signature is not None
    assert [(column.name, column.type.name) for column in copy.signature.inputs] == [("text", "string")]
    assert json.loads((tmp_path / "copy" / "input_example.json").read_text())["columns"] == ["text"]


@pytest.mark.requirement("REL-2")
def test_top_words_finds_the_informative_words(trained: tuple[Training, ArtefactStore]) -> None:
    training, _ = trained
    effects = training.record["top_words"]
    assert {word for word, effect in effects.items() if effect > 0.1} == set(TELLING[1])
    assert {word for word, effect in effects.items() if effect < -0.1} == set(TELLING[0])
    assert {"the", "now", "city"} < effects.keys()
    assert "http" not in effects
    assert "top_words.png" in training.assessment.plots
    assert "importance.png" not in training.assessment.plots
    assert "plot_top_words" in model_metadata.of_training(TEXT_SPEC, training, None)


def test_the_effect_of_a_word_is_the_mean_drop_in_score_without_it() -> None:
    class Counts:
        def scores(self, frame: pd.DataFrame) -> Any:
            return frame["text"].str.count("fire").to_numpy() / 10 + frame["bonus"].to_numpy()

    rows = pd.DataFrame({"text": ["Fire fire a", "#fire b", "c", None] * 10, "bonus": 0.1})
    explain = top_words("text")
    lower = rows.assign(text=rows["text"].str.lower())
    found = explain(TEXT_SPEC, Counts(), HeldOut(lower, np.zeros(40, dtype=np.int64), 0.5)).found  # type: ignore[arg-type]  # implements only `scores`
    assert found == pytest.approx({"a": 0, "b": 0, "c": 0, "fire": 0.15})
    nothing = explain(TEXT_SPEC, Counts(), HeldOut(rows.head(3), np.zeros(3, dtype=np.int64), 0.5))  # type: ignore[arg-type]  # as above
    assert nothing.found == {}
    assert nothing.draw()["top_words.png"].startswith(b"\x89PNG")


@pytest.mark.requirement("REL-2")
def test_tables_of_errors_escape_texts_and_show_only_declared_columns(trained: tuple[Training, ArtefactStore]) -> None:
    training, _ = trained
    metadata = model_metadata.of_training(TEXT_SPEC, training, None)
    for kind, wrong in (("false_alarms", 0), ("missed", 1)):
        shown = training.assessment.errors[kind]
        assert list(shown.columns) == ["message", "text", "score"]
        assert 1 <= len(shown) <= MOST_ERRORS
        assert set(messages().set_index("message")["urgent"][shown["message"]]) == {wrong}
        assert shown["score"].is_monotonic_increasing == (kind == "missed")
        # Links and tags in user texts are escaped.
        table = str(metadata[f"errors_{kind}"].value)
        assert r"http\:\/\/t\.co\/x \|\_\*\<b\>" in table
    assert not any("errors" in name for name in training.record)


def test_long_texts_are_truncated_and_unprintable_characters_are_replaced() -> None:
    assert model_metadata._quoted("a\x00\n\u202eb" + "c" * 400) == "a b" + "c" * 297 + r" \.\."
    assert model_metadata._quoted(0.123456) == "0.123"
    assert model_metadata._errors(pd.DataFrame({"text": []})) == "None."


def test_error_columns_that_the_examples_lack_are_refused() -> None:
    from platform_assets.training.fitting import demand_sound

    with pytest.raises(TrainingError, match="does not return these columns: 'address'"):
        demand_sound(replace(TEXT_SPEC, error_columns=("address",)), messages())
    assert SPEC.error_columns == ()


def test_explanations_are_recorded_and_plotted(tmp_path: Path) -> None:
    engine = Engine(tmp_path / "scratch")
    tables = TableStore(MEMORY, engine)
    with engine.stage(messages(300)) as staged:
        tables.publish(TABLE, staged, metadata={"demo": False})
    spec = replace(
        TEXT_SPEC,
        explanations=(
            lambda *_: Explanation("surface", {"of": "two"}, lambda: {"one.png": b"1", "two.png": b"2"}),
            explanations.permutation_importance,
        ),
    )
    training = Trainer(tables, ArtefactStore(str(tmp_path)), MemoryRegistry()).train(spec, "user", lambda _: None)
    assert training.record["surface"] == {"of": "two"}
    assert training.record["importance"]["text"][0] > 0.1
    assert {"one.png", "two.png", "importance.png", "roc.png"} < training.assessment.plots.keys()
    engine.close()


@pytest.mark.requirement("SEN-7")
@pytest.mark.parametrize("rows", [[[0.0, 1.0], [2.0, None]], [[1.0, 1.0], [1.0, 1.0]], [[None, 1.0], [1.0, None]]])
def test_a_decision_surface_can_be_drawn_for_missing_and_constant_features(rows: list[list[float]]) -> None:
    class Flat:
        def scores(self, grid: pd.DataFrame) -> Any:
            assert grid.notna().all(axis=None)
            return np.full(len(grid), 0.5)

    spec = replace(TEXT_SPEC, features=(Column("a", "float64", ""), Column("b", "float64", "")))
    frame = pd.DataFrame(rows, columns=["a", "b"], dtype="float64")
    found = decision_surface(spec, Flat(), HeldOut(frame, np.array([0, 1]), 0.5))  # type: ignore[arg-type]  # implements only `scores`
    assert found.found["share_flagged"] == 1.0
    assert found.draw()["decision_surface.png"].startswith(b"\x89PNG")
