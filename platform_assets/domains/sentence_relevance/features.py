"""Label the sentences for training, or exclude them with a reason. Pure functions from table to table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.base.text_cleaning import clean
from platform_assets.domains.sentence_relevance.schemas import (
    CANNOT_DECIDE,
    CONFLICTING,
    LABELS,
    NO_WORDS,
    REASONS,
    REPEAT,
    SENTENCES,
    UNDECIDED,
)
from platform_assets.evaluation.near_duplicates import near_duplicates

if TYPE_CHECKING:
    import pandas as pd

    from platform_assets.base.frames import Frame

TOPIC_ROWS = 1_000
"""Number of rows per topic. The real source has about fifty rows per search word, so a topic covers about 20 words."""


def label(archived: Frame) -> Frame:
    """Return one row for each sentence of the archive, with its label or the reason why it is excluded.

    Sentences are equal if their cleaned texts are equal. Sentences labelled "Can't Decide" are excluded. Of
    equal sentences with the same label, only the one with the lowest row number is used. If the labels differ, all of
    the equal sentences are excluded.

    Parameters
    ----------
    archived
        Rows of `schemas.ARCHIVED_SENTENCES`, in any order.

    Returns
    -------
    Frame
        Rows of `schemas.SENTENCES`, ordered by number.
    """
    rows = archived.sort_values("index", ignore_index=True)
    words = rows["text"].map(clean)
    reason = _reason(words, rows["choose_one"])
    labelled = rows.assign(
        sentence_id=rows["index"],
        label=rows["choose_one"],
        relevant=rows["choose_one"].map(LABELS).astype("Int64").mask(reason.notna()),
        set_aside=reason,
        # The texts are ordered by row number, so that a group keeps its key when sentences are added.
        near_duplicates=near_duplicates(words.tolist()),
        words=words.map(lambda text: len(text.split())),
        topic=rows["index"].map(topic),
    )
    return labelled[[column.name for column in SENTENCES.columns]]


def topic(index: int) -> str:
    """Return the topic of a sentence: the range of 1,000 row numbers that contains its `index`, e.g. "2000 to 2999".

    Sentences with close row numbers are about similar topics, because the source is ordered by topic.
    """
    first = index // TOPIC_ROWS * TOPIC_ROWS
    return f"{first} to {first + TOPIC_ROWS - 1}"


def counts(sentences: Frame) -> dict[str, int]:
    """Count the sentences used for training, the excluded ones by reason, and the groups of near-duplicates.

    Parameters
    ----------
    sentences
        Rows of `schemas.SENTENCES`.
    """
    learned = sentences[sentences["set_aside"].isna()]
    reasons = {reason: sentences["set_aside"] == reason for reason in REASONS}
    sizes = learned.groupby("near_duplicates").size()
    return {
        "learned_from": len(learned),
        "relevant": int((learned["relevant"] == 1).sum()),
        **{f"set_aside_{reason.replace(' ', '_')}": int(rows.sum()) for reason, rows in reasons.items()},
        "groups_of_near_duplicates": int((sizes > 1).sum()),
        "rows_in_these_groups": int(sizes[sizes > 1].sum()),
        "largest_group": int(sizes.max()) if len(sizes) else 0,
    }


def _reason(words: pd.Series[str], chosen: pd.Series[str]) -> pd.Series[str]:
    """Return the reason why each sentence is excluded; null if it is used. Sentences must be ordered by row number."""
    import pandas as pd

    decided = (chosen != CANNOT_DECIDE) & (words != "")
    choices = chosen.where(decided).groupby(words).transform("nunique")
    repeated = words.where(decided).duplicated() & decided
    reason = pd.Series(None, index=words.index, dtype="str")
    # If several reasons apply, the last assignment wins.
    reason[repeated] = REPEAT
    reason[decided & (choices > 1)] = CONFLICTING
    reason[~decided] = UNDECIDED
    reason[words == ""] = NO_WORDS
    return reason
