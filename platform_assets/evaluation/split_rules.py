"""Rules that split a model's examples into training set, holdout and folds. Each model's declaration names its rule.

`GroupSplit` holds out groups. If examples have times, it holds out only the newest rows of these groups.
`StratifiedSplit` holds out the same share of each class.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Protocol

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.splits import (
    Holdout,
    Split,
    demand_folds,
    folds,
    group_keys,
    hash_position,
    in_holdout,
    split,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame

    Indices = NDArray[np.int64]
    Labels = NDArray[np.int64]


class SplitRule(Protocol):
    """A rule that splits examples, and later recognises the examples that a version was not trained on."""

    @property
    def group(self) -> str:
        """Column of the group key. All rows of a group are on the same side of the split."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads."""

    @property
    def description(self) -> str:
        """How the held-out rows differ from the training rows, in a few words."""

    @property
    def identity(self) -> Mapping[str, Any]:
        """The rule's parameters, as JSON values."""

    def split(self, examples: Frame, labels: Labels) -> Split:
        """Split examples into training set and holdout."""

    def folds(self, examples: Frame, labels: Labels, count: int) -> Sequence[tuple[Indices, Indices]]:
        """Return the indices of the training and the test rows of each cross-validation fold."""

    def held_out(self, recorded: Mapping[str, Any], examples: Frame, labels: Labels) -> NDArray[np.bool_]:
        """Return a mask of the rows that a version held out, given the parameters recorded with the version."""


@dataclass(frozen=True)
class GroupSplit:
    """Holds out groups, chosen by a stable hash. If examples have times, only the groups' newest rows are held out.

    Attributes
    ----------
    group
        Column of the group key.
    time
        Column of an example's time; None if examples have no time.
    holdout
        Size of the holdout.
    """

    group: str
    time: str | None = None
    holdout: Holdout = field(default_factory=Holdout)

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads."""
        return (self.group, self.time) if self.time else (self.group,)

    @property
    def description(self) -> str:
        """How the held-out rows differ from the training rows."""
        return f"other values of {self.group}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """The size of the holdout."""
        return asdict(self.holdout)

    def split(self, examples: Frame, labels: Labels) -> Split:  # noqa: ARG002 - the signature of all rules
        """Split by group and time; see `splits.split`."""
        found = split(examples[self.group], examples[self.time] if self.time else None, self.holdout)
        size = {"holdout_groups": str(self.holdout.groups), "holdout_newest": str(self.holdout.newest)}
        return replace(found, recorded={"group": self.group, **size})

    def folds(self, examples: Frame, labels: Labels, count: int) -> list[tuple[Indices, Indices]]:  # noqa: ARG002 - as above
        """Return folds by group and time; see `splits.folds`."""
        times = examples[self.time] if self.time else None
        return folds(examples[self.group], times, count, self.holdout.newest)

    def held_out(self, recorded: Mapping[str, Any], examples: Frame, labels: Labels) -> NDArray[np.bool_]:  # noqa: ARG002 - as above
        """Return a mask of the rows that belong to held-out groups.

        Raises
        ------
        TrainingError
            The version held out a smaller share of the groups, or groups of another column.
        """
        group, share = recorded.get("group"), float(recorded.get("holdout_groups", 0))
        if group != self.group or share < self.holdout.groups:
            raise TrainingError(
                f"it held out a share of {share:g} of the values of {group}, but the current share is "
                f"{self.holdout.groups:g} of the values of {self.group}, so it may have been trained on held-out "
                "examples; decide without this comparison"
            )
        return in_holdout(examples[self.group], self.holdout.groups)


@dataclass(frozen=True)
class StratifiedSplit:
    """Holds out the same share of each class, chosen by a seeded hash of the group key.

    The groups of each class are sorted by the hash of seed and key, and those with the lowest hashes are held out. A
    group belongs to the class of most of its rows. When rows are added, the boundary between the two sides shifts, and
    only groups near it change sides. Each version therefore records its boundaries.

    Attributes
    ----------
    group
        Column of the group key. Give equal examples equal keys, so that they are on the same side of the split.
    share
        Share of each class that is held out; above 0, below 1.
    seed
        Random seed of the hash.

    Raises
    ------
    TrainingError
        The share is out of range.
    """

    group: str
    share: float = 0.2
    seed: int = 20_260_101

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise TrainingError(f"StratifiedSplit.share is {self.share:g}; it must be a share above 0 and below 1")

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads."""
        return (self.group,)

    @property
    def description(self) -> str:
        """How the held-out rows differ from the training rows."""
        return f"{self.share:.0%} of each class, other values of {self.group}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """Kind, share and seed."""
        return {"stratified": self.share, "seed": self.seed}

    def split(self, examples: Frame, labels: Labels) -> Split:
        """Split examples into training set and holdout.

        Parameters
        ----------
        examples
            Rows with the group key, (n,).
        labels
            0 or 1, (n,).

        Raises
        ------
        TrainingError
            A group is missing, or a class has too few groups for both sides.
        """
        import numpy as np

        if not np.isin(labels, (0, 1)).all():
            raise TrainingError(
                "StratifiedSplit needs the labels 0 and 1; use GroupSplit or TimeSplit for other labels"
            )
        groups = _Groups(self, examples, labels, "holdout")
        held, below = np.zeros(len(groups.keys), dtype=np.bool_), {}
        for label, ranked in groups.ranked():
            count = round(self.share * len(ranked))
            if not 0 < count < len(ranked):
                raise TrainingError(
                    f"{count} of {len(ranked)} groups of class {label} would be held out at a share of {self.share:g}; "
                    "load data with more groups of each class"
                )
            held[ranked[:count]] = True
            below[f"holdout_below_{label}"] = str(groups.positions[ranked[count]])
        judges = held[groups.codes]
        own = {"group": self.group, "holdout_share": str(self.share), "holdout_seed": str(self.seed)}
        return Split(np.flatnonzero(~judges), np.flatnonzero(judges), 0, None, own | below)

    def folds(self, examples: Frame, labels: Labels, count: int) -> list[tuple[Indices, Indices]]:
        """Return folds with the same share of each class.

        Parameters
        ----------
        examples
            Rows with the group key, (n,).
        labels
            0 or 1, (n,).
        count
            Number of folds, 2 or more.

        Raises
        ------
        TrainingError
            A group is missing, or a class has fewer groups than folds.
        """
        import numpy as np

        demand_folds(count)
        groups = _Groups(self, examples, labels, "fold")
        fold_of = np.zeros(len(groups.keys), dtype=np.int64)
        for label, ranked in groups.ranked():
            if len(ranked) < count:
                raise TrainingError(f"class {label} has {len(ranked)} groups for {count} folds; load more data")
            fold_of[ranked] = np.arange(len(ranked)) * count // len(ranked)
        folded = fold_of[groups.codes]
        return [(np.flatnonzero(folded != fold), np.flatnonzero(folded == fold)) for fold in range(count)]

    def held_out(self, recorded: Mapping[str, Any], examples: Frame, labels: Labels) -> NDArray[np.bool_]:
        """Return a mask of the rows that a version held out: those of groups whose hash is below the recorded boundary.

        Raises
        ------
        TrainingError
            The version was split by another rule, column or seed.
        """
        import numpy as np

        bounds = [int(recorded.get(f"holdout_below_{label}", -1)) for label in (0, 1)]
        group, seed = recorded.get("group"), str(recorded.get("holdout_seed"))
        if min(bounds) < 0 or (group, seed) != (self.group, str(self.seed)):
            raise TrainingError(
                f"its examples were split by {group} with seed {seed}, but the current split is by {self.group} with "
                f"seed {self.seed}, so it may have been trained on held-out examples; decide without this comparison"
            )
        groups = _Groups(self, examples, labels, "holdout")
        # A group belongs to the class of most of its rows (1 in a tie). If it has rows of both classes, the other class
        # may have had the majority when the version was trained. Treat such a group as held out only if its hash is
        # below both boundaries.
        bound = [min(bounds) if both else bounds[label] for label, both in zip(groups.label, groups.both, strict=True)]
        below = np.array([at < end for at, end in zip(groups.positions, bound, strict=True)], dtype=np.bool_)
        return below[groups.codes]


class _Groups:
    """The groups of examples, with the class and the hash of each."""

    def __init__(self, rule: StratifiedSplit, examples: Frame, labels: Labels, salt: str) -> None:
        import numpy as np

        self.codes, self.keys = group_keys(examples[rule.group])
        rows = np.bincount(self.codes, minlength=len(self.keys))
        positives = np.bincount(self.codes, labels, len(self.keys))
        self.label = (2 * positives >= rows).astype(np.int64)
        self.both = (positives > 0) & (positives < rows)
        self.positions = [hash_position(key, f"{rule.seed}:{salt}:") for key in self.keys]

    def ranked(self) -> list[tuple[int, Indices]]:
        """Return each class with the indices of its groups, sorted by hash."""
        import numpy as np

        order = np.array(sorted(range(len(self.keys)), key=self.positions.__getitem__), dtype=np.int64)
        return [(label, order[self.label[order] == label]) for label in (0, 1)]
