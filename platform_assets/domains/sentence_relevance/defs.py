"""Sentence relevance in Dagster: wiring only. `sources.py` and `features.py` do the work."""

import dagster as dg

from platform_assets.base.frames import Frame
from platform_assets.domains.sentence_relevance import features, schemas
from platform_assets.domains.sentence_relevance.sources import ARCHIVE, read_archived
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.assets import table_asset
from platform_assets.landing.declared_sources import Sources
from platform_assets.landing.landed_rows import Landed
from platform_assets.landing.sensors import source_changed_sensor

OWNERS = ["team:sentence-relevance"]


@table_asset(schemas.ARCHIVED_SENTENCES, owners=OWNERS, kinds={"sqlite"})
def archived_sentences(sources: dg.ResourceParam[Sources], engine: dg.ResourceParam[Engine]) -> Landed:
    """One row per sentence, as delivered in the archive. Invalid rows are in `archived_sentences_quarantine`."""
    return read_archived(sources, engine)


@table_asset(schemas.SENTENCES, owners=OWNERS, kinds={"pandas"})
def sentences(context: dg.AssetExecutionContext, archived_sentences: Frame) -> Frame:
    """One row per sentence, with its label or the reason why it is excluded, and its group of near-duplicates.

    Excluded are sentences labelled "Can't Decide", all sentences of equal words with different labels, repeats of a
    sentence, and texts without words after cleaning.
    """
    labelled = features.label(archived_sentences)
    context.add_asset_metadata(features.counts(labelled))
    return labelled


archive_changed = source_changed_sensor(
    "sentence_relevance_archive_changed", ARCHIVE, archived_sentences, "train_sentence_relevance_model"
)
