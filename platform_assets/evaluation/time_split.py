"""Split a time series: the newest blocks are the holdout, and cross-validation uses expanding windows.

As in forecasting, the training rows of a fold are all blocks before its test blocks (rolling origin: Tashman,
International Journal of Forecasting 16, 2000). Rows of a block, such as the hours of a day, stay together.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.splits import Split, demand_folds, group_keys

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame

    Indices = NDArray[np.int64]


@dataclass(frozen=True)
class TimeSplit:
    """Holds out the newest blocks of a time series.

    Attributes
    ----------
    time
        Column of a row's time: dates, or timestamps in one time zone.
    block
        Column of the block of consecutive rows, such as the local day. Bootstrap intervals of metrics resample blocks.
    newest
        Share of the blocks that are held out; above 0, below 1.
    window
        Number of test blocks per fold; None divides the training set into `folds` + 1 equal parts.
    gap
        Number of blocks left out between training and test rows, for labels that become known late.

    Raises
    ------
    TrainingError
        A parameter is out of range.
    """

    time: str
    block: str
    newest: float = 0.2
    window: int | None = None
    gap: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.newest < 1:
            raise TrainingError(f"TimeSplit.newest is {self.newest:g}; it must be a share above 0 and below 1")
        if self.gap < 0 or (self.window is not None and self.window < 1):
            raise TrainingError(
                f"TimeSplit.gap is {self.gap} and TimeSplit.window is {self.window}; the gap must be 0 blocks or more, "
                "and the window 1 block or more, or None"
            )

    @property
    def group(self) -> str:
        """Column of the block."""
        return self.block

    @property
    def columns(self) -> tuple[str, ...]:
        """Columns that the rule reads."""
        return (self.block, self.time)

    @property
    def description(self) -> str:
        """Description of the holdout: how its rows differ from the training rows."""
        return f"the newest {self.newest:.0%} by {self.block}"

    @property
    def identity(self) -> Mapping[str, Any]:
        """The parameters."""
        return asdict(self)

    def split(self, examples: Frame, labels: NDArray[Any]) -> Split:  # noqa: ARG002 - the signature of all rules
        """Split examples into training set and holdout.

        Raises
        ------
        TrainingError
            A time or block is missing, blocks overlap in time, or there are too few blocks.
        """
        import numpy as np

        blocks = _Blocks(self, examples)
        held = max(1, round(self.newest * blocks.count))
        first = blocks.count - held
        if first - self.gap < 1:
            raise TrainingError(
                f"{self.block} has {blocks.count} values, which are too few to hold out {held} with a gap of "
                f"{self.gap}; load more data"
            )
        train, holdout = (
            np.flatnonzero(blocks.place < first - self.gap),
            np.flatnonzero(blocks.place >= first),
        )
        cut = blocks.start[first]
        recorded = {"group": self.block, "time": self.time, "holdout_from": cut.isoformat()}
        return Split(train, holdout, len(examples) - len(train) - len(holdout), cut, recorded)

    def folds(self, examples: Frame, labels: NDArray[Any], count: int) -> list[tuple[Indices, Indices]]:  # noqa: ARG002 - as above
        """Return expanding windows: each fold's training rows are all rows before its test blocks.

        Raises
        ------
        TrainingError
            There are too few blocks for this number of folds.
        """
        import numpy as np

        demand_folds(count)
        blocks = _Blocks(self, examples)
        window = self.window or blocks.count // (count + 1)
        starts = [blocks.count - (count - fold) * window for fold in range(count)]
        if not window or starts[0] - self.gap < 1:
            raise TrainingError(
                f"{self.block} has {blocks.count} values in the training set, which are too few for {count} folds with "
                f"{window or 1} test blocks each and a gap of {self.gap}; load more data, or declare fewer folds"
            )
        return [
            (
                np.flatnonzero(blocks.place < start - self.gap),
                np.flatnonzero((blocks.place >= start) & (blocks.place < start + window)),
            )
            for start in starts
        ]

    def held_out(self, recorded: Mapping[str, Any], examples: Frame, labels: NDArray[Any]) -> NDArray[np.bool_]:  # noqa: ARG002 - as above
        """Return a mask of the rows in the period of a version's holdout.

        Raises
        ------
        TrainingError
            The version was split by another rule or column, or no row is in the period of its holdout.
        """
        import pandas as pd

        since = recorded.get("holdout_from")
        if since is None or recorded.get("time") != self.time:
            raise TrainingError(
                f"its examples were not split by {self.time}, so it may have been trained on held-out examples; decide "
                "without this comparison"
            )
        times = _times(examples[self.time])
        start = pd.Timestamp(str(since))
        if (start.tzinfo is None) != (times.dt.tz is None):
            raise TrainingError(
                f"its holdout began at {since}, but {self.time} is now in the time zone {times.dt.tz}; decide without "
                "this comparison"
            )
        found: NDArray[np.bool_] = (times >= start).to_numpy()
        if not found.any():
            raise TrainingError(f"there are no examples since its holdout began ({since})")
        return found


class _Blocks:
    """The blocks of examples, sorted by time.

    Attributes
    ----------
    count
        Number of blocks.
    place
        Position of each row's block in the order of time, from 0, (n,).
    start
        First time of each block, (count,).
    """

    def __init__(self, rule: TimeSplit, examples: Frame) -> None:
        import numpy as np

        codes, keys = group_keys(examples[rule.block])
        times = _times(examples[rule.time]).reset_index(drop=True)
        ends = times.groupby(codes).agg(["min", "max"]).sort_values("min")
        overlaps = ends["min"].to_numpy()[1:] <= ends["max"].to_numpy()[:-1]
        if overlaps.any():
            at = int(np.argmax(overlaps))
            raise TrainingError(
                f"{rule.block} {keys[ends.index[at]]} ends at {ends['max'].iloc[at]}, but {keys[ends.index[at + 1]]} "
                f"begins at {ends['min'].iloc[at + 1]}; blocks must not overlap in {rule.time}"
            )
        self.count = len(ends)
        places = np.empty(self.count, dtype=np.int64)
        places[ends.index.to_numpy()] = np.arange(self.count)
        self.place = places[codes]
        self.start: pd.Series[pd.Timestamp] = ends["min"].reset_index(drop=True)


def _times(values: pd.Series[Any]) -> pd.Series[pd.Timestamp]:
    """Return times as timestamps.

    Raises
    ------
    TrainingError
        The column has another type, or a time is missing.
    """
    import pandas as pd

    if pd.api.types.is_numeric_dtype(values.dtype) or pd.api.types.is_string_dtype(values):
        raise TrainingError(f"the times have type {values.dtype}; convert the column to dates or timestamps")
    times = pd.to_datetime(values)
    if missing := int(times.isna().sum()):
        raise TrainingError(f"{missing} of {len(times)} rows have no time; fill in their time, or drop them")
    return times
