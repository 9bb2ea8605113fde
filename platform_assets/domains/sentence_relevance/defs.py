"""Sentence relevance in Dagster: wiring only. What is computed, and from what, is next door."""

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
    """One row per sentence, as the packed database holds it; what cannot be used is in `.._quarantine`."""
    return read_archived(sources, engine)


@table_asset(schemas.SENTENCES, owners=OWNERS, kinds={"pandas"})
def sentences(context: dg.AssetExecutionContext, archived_sentences: Frame) -> Frame:
    """Each sentence with what is learned from it, or why nothing is, and the group of its near-duplicates.

    Not learned from: "Can't Decide"; the same words with different labels, all of them; the same words again, of which
    the first stays; texts without a word once addresses and mentions are gone.
    """
    labelled = features.label(archived_sentences)
    context.add_asset_metadata(features.counts(labelled))
    return labelled


archive_changed = source_changed_sensor(
    "sentence_relevance_archive_changed", ARCHIVE, archived_sentences, "train_sentence_relevance_model"
)
