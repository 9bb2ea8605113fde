"""Convert archives to tables of labelled sentences, without Dagster, the lake or the database."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pandas as pd

from platform_assets.domains.sentence_relevance.demo import generate
from platform_assets.domains.sentence_relevance.features import label
from platform_assets.domains.sentence_relevance.schemas import LABELS, TABLE
from platform_assets.landing.archives import Unpacking

if TYPE_CHECKING:
    from pathlib import Path


def sentences_of(archive: Path, folder: Path) -> pd.DataFrame:
    """Return the labelled sentences of an archive, with the columns of `schemas.SENTENCES`. Bad rows are dropped."""
    file = Unpacking(10**9, "no setting").unpack(archive, folder, archive.name)
    with closing(sqlite3.connect(file)) as database:
        database.text_factory = lambda text: text.decode(errors="replace")
        rows = pd.read_sql(f"select * from {TABLE}", database).dropna().drop_duplicates("index")
    good = rows["choose_one"].map(LABELS).eq(rows["class_label"]) & rows["text"].str.strip().ne("")
    return label(rows[good].astype({"index": "int64"}))


def demo_sentences(folder: Path, rows: int, seed: int = 1) -> pd.DataFrame:
    """Return the labelled sentences of a generated archive."""
    (place := folder / "unpacked").mkdir(parents=True)
    return sentences_of(generate(folder / "sentences.tar.gz", rows, seed), place)
