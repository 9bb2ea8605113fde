"""The training rows of a model version, for comparison with new rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError, TableError
from platform_assets.monitoring.drift.rulers import CategoryRuler, JointRuler, NumberRuler
from platform_assets.training.examples import read_pinned_examples
from platform_assets.training.fitting import feature_frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.models.registry import ModelVersion
    from platform_assets.monitoring.drift.rulers import Ruler
    from platform_assets.training.model_spec import ModelSpec

JOINT = "all numeric features"
"""Name of the column that represents all numeric features together."""
PROBABILITY = "predicted probability"
"""Name of the column with the model's probabilities."""

MOST_ROWS = 50_000
"""Maximum number of training rows in a comparison.

With this many rows, the tolerances have about their minimum width, `evidence.FLOOR`, so more rows would not help.
"""


@dataclass(frozen=True, eq=False)
class Reference:
    """Training rows of a model version, with the rulers (see `rulers.py`) that convert values to scores.

    Attributes
    ----------
    version
        The model version.
    model
        Fitted model of the version.
    rulers
        Rulers by column. The columns are the features, `JOINT` for all numeric features together, and `PROBABILITY`.
    known
        Values by column, for plots. The probabilities are from holdout rows, all other values from training rows.
    """

    spec: ModelSpec
    version: ModelVersion
    model: FittedModel
    rulers: Mapping[str, Ruler]
    known: Mapping[str, Any]

    def columns(self, rows: Frame) -> Mapping[str, Any]:
        """Return the values of each column in the form that its ruler expects.

        Parameters
        ----------
        rows
            New rows, with the features.

        Raises
        ------
        TableError
            A feature is missing.
        """
        if missing := [name for name in self.spec.feature_names if name not in rows.columns]:
            table = self.spec.incoming.table if self.spec.incoming else "the table"
            names = ", ".join(map(repr, missing))
            raise TableError(f"{table} has no column {names}, which is a feature of {self.spec.key}")
        features = feature_frame(rows, self.spec)
        return dict(_of_features(features)) | {PROBABILITY: probabilities(self.model, features)}

    def outside(self, rows: Frame) -> NDArray[np.bool_] | None:
        """Return True for each row that is outside the training range, (n,); None if the range is unknown."""
        return self.model.outside_training_range(feature_frame(rows, self.spec))


def read_reference(tables: TableStore, artefacts: ArtefactStore, spec: ModelSpec, version: ModelVersion) -> Reference:
    """Read the rows with which new rows are compared, from the table versions that the model version was trained on.

    The features of new rows are compared with the training rows. The probabilities of new rows are compared with those
    of the holdout rows, because the probabilities of the training rows are more extreme: the model was fitted on them.

    Raises
    ------
    TableError, TrainingError
        A table version is missing or was replaced.
    ArtefactError
        The artefact is missing or was altered.
    """
    examples = read_pinned_examples(tables, spec, version)
    model = artefacts.load(version.digest)
    training, holdout = (
        feature_frame(rows if len(rows) <= MOST_ROWS else rows.sample(MOST_ROWS, random_state=0), spec)
        for rows in (examples.training, examples.holdout)
    )
    known = dict(_of_features(training))
    held_out = dict(_of_features(holdout))
    known[PROBABILITY] = probabilities(model, holdout)
    rulers: dict[str, Ruler] = {}
    for name, values in known.items():
        if name == JOINT:
            rulers[name] = JointRuler(values, held_out[name])
        else:
            rulers[name] = NumberRuler(values) if values.dtype.kind == "f" else CategoryRuler(values)
    return Reference(spec, version, model, rulers, known)


def probabilities(model: FittedModel, features: Frame) -> NDArray[np.float64]:
    """Return the model's probability of each row; NaN for rows that it cannot score."""
    import numpy as np

    try:
        return model.scores(features)
    except ArtefactError:
        # Score only rows without missing or infinite values. Some estimators reject all rows if one has such a value.
        numbers = features.select_dtypes("float64").to_numpy()
        complete = np.isfinite(numbers).all(axis=1) & features.notna().all(axis=1).to_numpy()
        scores = np.full(len(features), np.nan)
        scores[complete] = model.scores(features[complete])
        return scores


def _of_features(features: Frame) -> Iterator[tuple[str, Any]]:
    numbers = features.select_dtypes("float64")
    for name in features.columns:
        yield str(name), features[name].to_numpy(dtype="float64" if name in numbers else object)
    if numbers.shape[1] > 1:
        yield JOINT, numbers.to_numpy()
