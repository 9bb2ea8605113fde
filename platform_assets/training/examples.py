"""Labelled examples of a model: reading, checking and splitting them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError, TrainingError
from platform_assets.engine.query_engine import as_frame
from platform_assets.models.registry import IMPORTED_TAG
from platform_assets.training.fitting import demand_sound, labels_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.splits import Split
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.table_versions import TableVersion
    from platform_assets.models.registry import ModelVersion
    from platform_assets.training.model_spec import ModelSpec

KNOWN = "groups"
"""Column that shows whether the model was trained on the example's group: `seen in training` or `never seen`."""


@dataclass(frozen=True)
class Examples:
    """All examples of a model and their split.

    Attributes
    ----------
    frame
        One row per example, sorted by id.
    parts
        Row numbers of the training set and the holdout.
    inputs
        Version of each input table, by table name.
    """

    frame: Frame
    parts: Split
    inputs: Mapping[str, TableVersion]

    @property
    def training(self) -> Frame:
        """Training set."""
        return self.frame.iloc[self.parts.train]

    @property
    def holdout(self) -> Frame:
        """Holdout."""
        return self.frame.iloc[self.parts.holdout]

    @property
    def demo(self) -> bool:
        """Whether any input table contains sample data."""
        return any(bool(version.metadata.get("demo")) for version in self.inputs.values())


def read_examples(tables: TableStore, spec: ModelSpec, versions: Mapping[str, int] | None = None) -> Examples:
    """Read, check and split the examples of a model.

    Parameters
    ----------
    tables
        Store of the input tables.
    spec
        Declaration of the model.
    versions
        Version of each table to read; None reads the current versions.

    Raises
    ------
    TableError
        A table or table version does not exist.
    TrainingError
        The examples are invalid or cannot be split.
    """
    inputs = {name: _table_version(tables, name, versions[name] if versions else None) for name in spec.tables}
    scans = (tables.scan(name, version=version.version) for name, version in inputs.items())
    # Sort the rows, because fits depend on the row order, which the engine does not guarantee.
    frame = as_frame(spec.examples(*scans).order_by(spec.id))
    demand_sound(spec, frame)
    return Examples(frame, spec.split.split(frame, labels_of(spec, frame)), inputs)


def read_pinned_examples(tables: TableStore, spec: ModelSpec, version: ModelVersion) -> Examples:
    """Read the examples from the table versions that a model version was trained on.

    Raises
    ------
    TrainingError
        The content of a table version differs from the recorded one, or the model version was imported.
    TableError
        A table version does not exist.
    """
    if imported := version.tags.get(IMPORTED_TAG):
        raise TrainingError(
            f"{spec.name} version {version.version} was imported ({imported}); its training tables are not in this lake"
        )
    examples = read_examples(tables, spec, version.tables)
    for name, table in examples.inputs.items():
        if table.digest != version.table_digests[name]:
            raise TrainingError(
                f"{spec.key} version {version.version} was trained on table {name} with digest "
                f"{version.table_digests[name]}, but table version {table.version} now has digest {table.digest}. "
                "The table was replaced; train the model again"
            )
    return examples


def labelled_since(tables: TableStore, spec: ModelSpec, version: ModelVersion, examples: Examples) -> tuple[str, Frame]:
    """Return the examples labelled since a version was trained, or the holdout if they are too few.

    Returns
    -------
    tuple[str, Frame]
        Description of the chosen examples, and the examples with the column `KNOWN`.
    """
    import numpy as np

    if imported := version.tags.get(IMPORTED_TAG):
        told = f"the holdout of {len(examples.holdout):,} examples, because the version was imported ({imported})"
        return told, not_trained_on(spec, version, examples.holdout).assign(**{KNOWN: "never seen"})
    then = spec.examples(*(tables.scan(name, version=version.tables[name]) for name in spec.tables))
    known = as_frame(then.select(*dict.fromkeys((spec.id, spec.group))))
    fresh = examples.frame[~examples.frame[spec.id].isin(known[spec.id])]
    labels = labels_of(spec, fresh)
    if (too_few := spec.task.too_few(labels)) is None:
        told, chosen = f"{len(fresh):,} examples labelled since the version was trained", fresh
    else:
        chosen = examples.holdout
        about = f" ({told_labels})" if (told_labels := spec.task.told_labels(labels)) else ""
        told = (
            f"the holdout of {len(chosen):,} examples, because only {len(fresh):,} were labelled since the version was "
            f"trained{about}; {too_few}"
        )
    # Mark examples of groups that the model was trained on, because metrics on them are optimistic.
    seen = ~_held_out(spec, version, chosen) & chosen[spec.group].isin(known[spec.group])
    return told, chosen.assign(**{KNOWN: np.where(seen, "seen in training", "never seen")})


def not_trained_on(spec: ModelSpec, version: ModelVersion, holdout: Frame) -> Frame:
    """Return the examples of the current holdout that were also in the holdout of a version.

    If the version was trained in this environment, this is usually the whole holdout. An imported version may have
    been trained on part of the current holdout.

    Raises
    ------
    TrainingError
        The version was imported and trained with another split rule, or too few examples are left.
    """
    try:
        chosen = holdout[spec.split.held_out(version.parameters, holdout, labels_of(spec, holdout))]
    except TrainingError as error:
        if IMPORTED_TAG not in version.tags:
            return holdout
        raise TrainingError(f"{spec.name} version {version.version} cannot be evaluated here: {error}") from None
    too_few = spec.task.too_few(labels_of(spec, chosen))
    if too_few and len(chosen) < len(holdout):
        raise TrainingError(
            f"{spec.name} version {version.version} cannot be evaluated here: it may have been trained on all but "
            f"{len(chosen):,} of the {len(holdout):,} examples in the current holdout; {too_few}"
        )
    return chosen


def _held_out(spec: ModelSpec, version: ModelVersion, rows: Frame) -> NDArray[np.bool_]:
    """Return, for each row, whether the version's split holds it out.

    If the version was trained with another split rule, all values are False.
    """
    import numpy as np

    try:
        return spec.split.held_out(version.parameters, rows, labels_of(spec, rows))
    except TrainingError:
        return np.zeros(len(rows), dtype=np.bool_)


def split_summary(spec: ModelSpec, examples: Examples) -> str:
    """Describe the sizes of the split in one line."""
    parts = examples.parts
    cut = f", from {parts.cut:%Y-%m-%d} on" if parts.cut is not None else ""
    return (
        f"{len(parts.train):,} training examples; {len(parts.holdout):,} held out ({spec.split.description}"
        f"{cut}); {parts.left_out:,} left out"
    )


def _table_version(tables: TableStore, name: str, number: int | None) -> TableVersion:
    current = tables.current(name)
    if current is None:
        raise TableError(f"table {name} does not exist yet; materialise the asset first")
    if number is None or number == current.version:
        return current
    for version in tables.versions(name):
        if version.version == number:
            return version
    raise TableError(
        f"table {name} has no version {number}; it was vacuumed, or PLATFORM_LAKE_URI points to another lake"
    )
