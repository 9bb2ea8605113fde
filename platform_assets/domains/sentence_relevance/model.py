"""Declaration of sentence relevance's model: the probability that a sentence is about a real disaster."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.domains.sentence_relevance.schemas import SENTENCES, TEXT
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.evaluation.thresholds import best_f1
from platform_assets.training.explanations import top_words
from platform_assets.training.model_spec import Candidate, Card, Kpi, ModelSpec, Retraining
from platform_assets.training.preprocessing import text_pipeline

if TYPE_CHECKING:
    import ibis.expr.types as ir

# Every word of a cleaned text counts, also single letters: `don t`, `i m`.
EVERY_WORD = r"\S+"
FEWEST_TEXTS = {"words": 2, "letters": 3}
"""Minimum document frequency of words and word pairs, and of letter groups. Rarer ones are two thirds of the file."""


def examples(sentences: ir.Table) -> ir.Table:
    """Return one row per sentence that is used: text, label, group of near-duplicates and subgroups.

    Parameters
    ----------
    sentences
        One row per sentence, with the columns of `schemas.SENTENCES`.

    Returns
    -------
    ir.Table
        `sentence_id`, `text`, `relevant`, `near_duplicates`, `topic`, `length`.
    """
    learned = sentences.filter(sentences.set_aside.isnull())
    return learned.select(
        "sentence_id", "text", "relevant", "near_duplicates", "topic", length=length_group(learned.words)
    )


def length_group(words: ir.IntegerColumn) -> ir.StringColumn:
    """Return the length group of a number of words. The four groups are about equal in the real data."""
    import ibis

    groups = {10: "0 to 9 words", 15: "10 to 14 words", 19: "15 to 18 words"}
    return ibis.cases(*((words < end, name) for end, name in groups.items()), else_="19 words and over")


def words_alone(seed: int) -> Any:
    """Return the simplest pipeline, a baseline for the other candidates."""
    from platform_assets.models.text_estimators import CompactTfidf

    return text_pipeline(CompactTfidf(token_pattern=EVERY_WORD), _logistic_regression(seed))


def logistic_regression(seed: int) -> Any:
    """Return a logistic regression on words, word pairs and letter groups within words."""
    return text_pipeline(_words_and_letters(), _logistic_regression(seed))


def support_vector_machine(seed: int) -> Any:
    """Return a linear support vector machine on the features of `logistic_regression`."""
    from sklearn.svm import LinearSVC

    return text_pipeline(_words_and_letters(), LinearSVC(random_state=seed))


def naive_bayes(seed: int) -> Any:  # noqa: ARG001 - all candidates take a seed
    """Return complement naive Bayes on the features of `logistic_regression`."""
    from sklearn.naive_bayes import ComplementNB

    return text_pipeline(_words_and_letters(), ComplementNB())


def _logistic_regression(seed: int) -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(solver="liblinear", random_state=seed)


def _words_and_letters() -> Any:
    """Return features of words and letters. Letters match `evacuated` with `evacuation`, and joined hashtags."""
    from sklearn.pipeline import FeatureUnion

    from platform_assets.models.text_estimators import CompactTfidf

    words = CompactTfidf(token_pattern=EVERY_WORD, ngram_range=(1, 2), min_df=FEWEST_TEXTS["words"], sublinear_tf=True)
    letters = CompactTfidf(analyzer="char_wb", ngram_range=(3, 5), min_df=FEWEST_TEXTS["letters"], sublinear_tf=True)
    return FeatureUnion([("words", words), ("letters", letters)])


MODEL = ModelSpec(
    key="sentence_relevance/sentence_relevance_model",
    description="Probability that a sentence is about a real disaster, from its words.",
    owners=("team:sentence-relevance",),
    tables=(SENTENCES.name,),
    examples=examples,
    id="sentence_id",
    features=(TEXT,),
    label="relevant",
    positive="relevant",
    group="near_duplicates",
    time=None,
    subgroups=("length", "topic"),
    candidates=(
        Candidate("words alone, logistic regression", words_alone),
        Candidate("logistic regression", logistic_regression, {"model__C": (1.0,)}),
        Candidate("support vector machine", support_vector_machine, {"model__C": (0.05,)}),
        Candidate("complement naive Bayes", naive_bayes, {"model__alpha": (0.3,)}),
    ),
    ranked_by="average_precision",
    threshold=best_f1(),
    criteria=(
        Criterion("precision", at_least=0.65, why="Two of three flagged sentences must be relevant."),
        Criterion("recall", at_least=0.65, why="Two of three relevant sentences must be flagged."),
        Criterion(
            "f1", at_least=0.68, why="Single words reach 0.73 on the real archive, so a much lower value is a defect."
        ),
        Criterion(
            "calibration_error",
            at_most=0.08,
            why="Analysts sort by probability. A perfect model reaches 0.05 by chance on 600 sentences.",
        ),
    ),
    not_worse=NotWorse("f1", by=0.03, why="A new version must have about the F1 of the champion."),
    explanations=(top_words(TEXT.name),),
    error_columns=("sentence_id", "text"),
    retraining=Retraining(min_new_rows=200),
    card=Card(
        purpose="Is this sentence about a real disaster, so that an analyst should read it?",
        acted_on_by="Analysts read the relevant sentences first, by score. No action follows from a score alone.",
        business_kpi=Kpi(
            name="share of relevant sentences among those that an analyst reads",
            owner="head of media monitoring",
            target="70 %, while 75 % of the relevant sentences are read, within a quarter of its promotion",
        ),
        technical_kpi="F1 on the test set (held-out groups of near-duplicates), with its interval; Brier score",
        label=(
            "One person's label of a sentence: relevant is 1, not relevant is 0. Undecided sentences and sentences "
            "with contradictory labels are excluded. Of repeated sentences, the first one is used."
        ),
        objective=(
            "Log-loss, or the loss of the chosen candidate, then calibrated. The threshold is the one with the highest "
            "F1 on sentences that the model was not fitted on."
        ),
        data=(
            "One row per sentence: short messages in English that were found by disaster-related search words, mostly "
            "from the summer of 2015."
        ),
        limits=(
            "English only. Cleaning removes other scripts, so such a sentence gets the score of an empty text.",
            "It knows the words, names and places of 2015. Monitor drift, and label new sentences.",
            "The messages were found by disaster-related words, so it flags too many messages of other kinds.",
            "It ignores context: irony, films, songs and games about disasters are typical false positives.",
            "Each label is one person's opinion. About 70 texts have contradictory labels.",
            "The artifact contains words and 100 training texts, which verify it when it is loaded.",
        ),
    ),
)
