"""Benchmark of the sentence relevance model by nested cross-validation, compared with a simple baseline.

The sentences are split into five outer folds, by groups of near-duplicates. To evaluate a fold, the complete training
runs on the other four folds. It compares the candidates, calibrates the scores and chooses the threshold on inner
folds. No sentence is therefore evaluated with a model or threshold that was fitted on it or on a near-duplicate. The
baseline is scikit-learn's TF-IDF of words with logistic regression on raw texts, with the same folds, calibration and
threshold rule.

Three sets of sentences are evaluated:

- the sentences used for training;
- all labelled sentences of the source, including repeated and contradictory sentences;
- all labelled sentences, with only identical texts grouped: this shows how much near-duplicates inflate the metrics.

The archive comes from PLATFORM_SENTENCES_ARCHIVE_URI; if this variable is unset, a demo archive is used.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline

from platform_assets.base.text_cleaning import clean
from platform_assets.domains.sentence_relevance.features import label
from platform_assets.domains.sentence_relevance.model import MODEL
from platform_assets.domains.sentence_relevance.schemas import ARCHIVED_SENTENCES, LABELS, RELEVANT, UNDECIDED
from platform_assets.domains.sentence_relevance.sources import read_archived
from platform_assets.engine.query_engine import as_frame
from platform_assets.evaluation.binary_classification import evaluate
from platform_assets.models.artefact_format import dump
from platform_assets.services import open_services
from platform_assets.settings import load_settings
from platform_assets.training.encoders import with_encoders
from platform_assets.training.fitting import feature_frame, fit
from platform_assets.training.model_spec import Candidate

if TYPE_CHECKING:
    import pandas as pd

    from platform_assets.training.model_spec import ModelSpec

OUTER_FOLDS = 5
RESAMPLES = 1_000
SHOWN = ("f1", "precision", "recall", "average_precision", "brier", "calibration_error")
AT_ONCE, ALONE = 1_000, 200


def simplest(seed: int) -> Any:
    """Return the baseline: TF-IDF of words and logistic regression."""
    words = ColumnTransformer([("words", TfidfVectorizer(), "text")])
    return make_pipeline(words, LogisticRegression(max_iter=1_000, random_state=seed))


WORDS_ONLY = with_encoders(MODEL, {})
SIMPLEST = replace(MODEL, candidates=(Candidate("plain TF-IDF, logistic regression", simplest),))


def run() -> None:
    sentences = _sentences()
    print(
        f"nested cross-validation, {OUTER_FOLDS} outer folds, split by group; "
        f"95 % intervals, {RESAMPLES:,} resamples of whole groups"
    )
    learned = sentences[sentences["set_aside"].isna()]
    decided = sentences[sentences["set_aside"] != UNDECIDED]
    decided = decided.assign(relevant=decided["label"].map(LABELS))
    identical = decided.assign(near_duplicates=decided["text"].map(clean))
    choices = {
        "used for training, grouped by near-duplicates": learned,
        "all labelled, grouped by near-duplicates": decided,
        "all labelled, grouped by identical text": identical,
    }
    for name, rows in choices.items():
        examples = rows.astype({"relevant": "int64"}).reset_index(drop=True)
        groups = examples["near_duplicates"].nunique()
        print(f"\n{name}: {len(examples):,} sentences, {examples['relevant'].mean():.1%} {RELEVANT}, {groups:,} groups")
        print(f"{'':36}" + "".join(f"{metric:>24}" for metric in SHOWN) + f"{'CPU s per fit':>14}")
        for title, spec in (("the model", WORDS_ONLY), (SIMPLEST.candidates[0].name, SIMPLEST)):
            found, seconds = _nested(spec, examples)
            cells = (f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for one in (found[name] for name in SHOWN))
            print(f"{title:36}" + "".join(f"{cell:>24}" for cell in cells) + f"{seconds:14.1f}", flush=True)
    _costs(learned.astype({"relevant": "int64"}))


def _sentences() -> pd.DataFrame:
    """Return the rows of the table `sentences`, computed from the valid rows of the archive."""
    with tempfile.TemporaryDirectory() as folder:
        services = open_services(load_settings().model_copy(update={"home": Path(folder)}))
        landed = read_archived(services.sources, services.engine)
        validated = services.validator.validate(ARCHIVED_SENTENCES, landed)
        archived = as_frame(services.engine.staged(validated.table))
        print(f"{len(archived):,} sentences, demo data: {validated.demo}")
        validated.discard()
        services.close()
    return label(archived)


def _nested(spec: ModelSpec, examples: pd.DataFrame) -> tuple[dict[str, Any], float]:
    """Return the metrics over all outer folds, and the median CPU seconds of training."""
    scores, flags = np.zeros(len(examples)), np.zeros(len(examples))
    seconds = []
    groups = examples["near_duplicates"]
    # The platform assigns groups to the inner folds by their hash, so assign them to the outer folds at random instead.
    for training, judging in GroupKFold(OUTER_FOLDS, shuffle=True, random_state=0).split(examples, groups=groups):
        start = time.process_time()
        fitted = fit(spec, examples.iloc[training], lambda _: None)
        seconds.append(time.process_time() - start)
        scores[judging] = fitted.model.scores(feature_frame(examples.iloc[judging], spec))
        flags[judging] = scores[judging] >= fitted.threshold
    labels = examples["relevant"]
    by_score = evaluate(labels, scores, groups, 0.5, resamples=RESAMPLES)
    # Each fold's own threshold has already been applied. The flags are 0 or 1, so the threshold 0.5 separates them.
    by_flag = evaluate(labels, flags, groups, 0.5, resamples=RESAMPLES)
    flagged = {name: by_flag[name] for name in ("f1", "precision", "recall")}
    return {**by_score, **flagged}, float(np.median(seconds))


def _costs(examples: pd.DataFrame) -> None:
    model = fit(WORDS_ONLY, examples, lambda _: None).model
    texts = [{"text": text} for text in examples["text"]]
    model.scores(texts[:1])
    many = _cpu_seconds(lambda: model.scores(texts[:AT_ONCE])) / len(texts[:AT_ONCE])
    alone = _cpu_seconds(lambda: [model.scores([text]) for text in texts[:ALONE]]) / len(texts[:ALONE])
    print(
        f"\nCPU milliseconds per sentence, one thread: {many * 1e3:.2f} in requests of {AT_ONCE:,}, "
        f"{alone * 1e3:.2f} in requests of one; the artefact has {len(dump(model)):,} bytes"
    )


def _cpu_seconds(work: Any) -> float:
    """Do the work five times and return the smallest CPU time, because other processes can only increase it."""
    taken = []
    for _ in range(5):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


if __name__ == "__main__":
    run()
