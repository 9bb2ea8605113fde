"""Labelled examples of a model: read from its tables, checked, and split into training and holdout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from platform_assets.base.errors import TableError
from platform_assets.engine.query_engine import as_frame
from platform_assets.evaluation.splits import in_holdout, split
from platform_assets.training.fitting import demand_sound

if TYPE_CHECKING:
    from collections.abc import Mapping

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.splits import Split
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.table_versions import TableVersion
    from platform_assets.models.registry import ModelVersion
    from platform_assets.training.model_spec import ModelSpec

KNOWN = "groups"
"""Column by which an evaluation tells groups that the model was trained on from others."""
FEWEST_OF_A_CLASS = 20
"""Examples of either class without which newly labelled ones judge nothing."""


@dataclass(frozen=True)
class Examples:
    """All examples of a model, and on which side of the split each is.

    Attributes
    ----------
    frame
        One row per example, in the order of their ids.
    parts
        Places of the examples to train on, and of those held out.
    inputs
        Tables that they come from, each with the version that was read.
    """

    frame: Frame
    parts: Split
    inputs: Mapping[str, TableVersion]

    @property
    def training(self) -> Frame:
        """Examples to train on."""
        return self.frame.iloc[self.parts.train]

    @property
    def holdout(self) -> Frame:
        """Examples held out."""
        return self.frame.iloc[self.parts.holdout]

    @property
    def demo(self) -> bool:
        """Whether some table holds sample data."""
        return any(bool(version.metadata.get("demo")) for version in self.inputs.values())


def read_examples(tables: TableStore, spec: ModelSpec, versions: Mapping[str, int] | None = None) -> Examples:
    """Read, check and split the examples of a model.

    Parameters
    ----------
    tables
        Where its tables are.
    spec
        The model.
    versions
        Which version of each table; None for the current ones.

    Raises
    ------
    TableError
        A table, or this version of it, is not there.
    TrainingError
        Nothing can be learned from the examples, or they cannot be split.
    """
    inputs = {name: _table_version(tables, name, versions[name] if versions else None) for name in spec.tables}
    scans = (tables.scan(name, version=version.version) for name, version in inputs.items())
    # The engine gives rows in no order, and fits depend on it.
    frame = as_frame(spec.examples(*scans).order_by(spec.id))
    demand_sound(spec, frame)
    return Examples(frame, split(frame[spec.group], frame[spec.time] if spec.time else None, spec.holdout), inputs)


def labelled_since(tables: TableStore, spec: ModelSpec, version: ModelVersion, examples: Examples) -> tuple[str, Frame]:
    """Choose the examples that were labelled since a version was trained, or the holdout where they are too few.

    Returns
    -------
    Which examples these are, as a sentence for people, and the examples, with the column `KNOWN`.
    """
    import numpy as np

    then = spec.examples(*(tables.scan(name, version=version.tables[name]) for name in spec.tables))
    known = as_frame(then.select(spec.id, spec.group))
    fresh = examples.frame[~examples.frame[spec.id].isin(known[spec.id])]
    positives = int(fresh[spec.label].sum())
    if min(positives, len(fresh) - positives) >= FEWEST_OF_A_CLASS:
        told, chosen = f"the {len(fresh):,} examples labelled since it was trained", fresh
    else:
        chosen = examples.holdout
        told = (
            f"the {len(chosen):,} examples held out: of {len(fresh):,} labelled since it was trained, {positives} "
            f"are {spec.positive}, and {FEWEST_OF_A_CLASS} of either class are needed"
        )
    # It learned from earlier examples of some groups, which flatters it.
    seen = ~in_holdout(chosen[spec.group], spec.holdout.groups) & chosen[spec.group].isin(known[spec.group])
    return told, chosen.assign(**{KNOWN: np.where(seen, "seen in training", "never seen")})


def split_summary(spec: ModelSpec, examples: Examples) -> str:
    """Say how many examples are on each side of the split."""
    parts = examples.parts
    cut = f" from {parts.cut:%Y-%m-%d} on" if parts.cut is not None else ""
    return (
        f"{len(parts.train):,} examples to train on, {len(parts.holdout):,} held out (of other groups by "
        f"{spec.group}{cut}), {parts.left_out:,} that are neither"
    )


def _table_version(tables: TableStore, name: str, number: int | None) -> TableVersion:
    current = tables.current(name)
    if current is None:
        raise TableError(f"there is no table {name} yet; materialise the asset first")
    if number is None or number == current.version:
        return current
    for version in tables.versions(name):
        if version.version == number:
            return version
    raise TableError(f"{name} has no version {number}; it was removed, or the lake is another one")
