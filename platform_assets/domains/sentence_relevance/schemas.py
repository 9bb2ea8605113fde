"""Sentence relevance's tables: columns, types, units, and the expectations that are checked before publication.

`features.py` labels the sentences. `lake/quarantine.py` quarantines rows that break a rule.
"""

from __future__ import annotations

from typing import Final

from platform_assets.lake.expectations import (
    has_a_word,
    has_rows,
    is_either,
    is_not_negative,
    is_one_of,
    is_paired_with,
    is_present,
    is_unique,
)
from platform_assets.lake.schemas import Column, TableSchema

RELEVANT: Final = "Relevant"
NOT_RELEVANT: Final = "Not Relevant"
CANNOT_DECIDE = "Can't Decide"
LABELS = {NOT_RELEVANT: 0, RELEVANT: 1, CANNOT_DECIDE: 2}
"""Labels, and their numbers in the archive."""

UNDECIDED = "undecided"
CONFLICTING = "conflicting labels"
REPEAT = "repeat"
NO_WORDS = "no words"
REASONS = (UNDECIDED, CONFLICTING, REPEAT, NO_WORDS)
"""Reasons why a sentence is excluded from training."""

TABLE = "data"
"""Name of the table in the archive's database."""

ARCHIVED_SENTENCES = TableSchema(
    name="sentence_relevance/archived_sentences",
    columns=(
        Column("index", "int64", "Row number in the source, unique. Rows are ordered by topic."),
        Column("text", "string", "The sentence as delivered: lower case, without URLs and most punctuation."),
        Column("choose_one", "string", f"Label: {', '.join(LABELS)}."),
        Column("class_label", "int64", "The label as a number: 0 not relevant, 1 relevant, 2 undecided."),
    ),
    key=("index",),
    source=True,
    expectations=(
        has_rows(),
        is_unique("index"),
        *(is_present(column) for column in ("index", "text", "choose_one", "class_label")),
        is_not_negative("index"),
        has_a_word("text"),
        is_one_of("choose_one", tuple(LABELS)),
        is_paired_with("class_label", "choose_one", LABELS),
    ),
)

TEXT = Column("text", "string", "The sentence as delivered. The model cleans it.")

SENTENCES = TableSchema(
    name="sentence_relevance/sentences",
    columns=(
        Column("sentence_id", "int64", "Id of the sentence, unique; `index` in the archive."),
        TEXT,
        Column("label", "string", f"Label: {', '.join(LABELS)}."),
        Column("relevant", "int64", "1 relevant, 0 not; null if the sentence is excluded from training."),
        Column(
            "set_aside",
            "string",
            f"Reason why the sentence is excluded from training: {', '.join(REASONS)}; null if it is used.",
        ),
        Column("near_duplicates", "string", "Key of the sentence's group of duplicates and near-duplicates."),
        Column("words", "int64", "Number of words after cleaning.", "words"),
        Column("topic", "string", "Range of 1,000 row numbers, e.g. 2000 to 2999. The source is ordered by topic."),
    ),
    key=("sentence_id",),
    expectations=(
        has_rows(),
        is_unique("sentence_id"),
        *(is_present(column) for column in ("sentence_id", "text", "label", "near_duplicates", "words", "topic")),
        is_one_of("label", tuple(LABELS)),
        is_one_of("relevant", (0, 1)),
        is_one_of("set_aside", REASONS),
        *is_either("relevant", "set_aside"),
        is_not_negative("words"),
    ),
)
