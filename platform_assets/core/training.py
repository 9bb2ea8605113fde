"""Training as a whole: tables of the lake in, a judged and registered version of a model out.

Everything that has to be the same whoever asks for it, Dagster, a command or a test: which examples,
which of them are held out, when a version counts as known, what is compared with what.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import math
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.core import evaluation, fitting, models, splits
from platform_assets.core.artefacts import library_versions
from platform_assets.core.engine import as_frame
from platform_assets.core.errors import ArtefactError, TableError, TrainingError
from platform_assets.core.evaluation import Reason, Verdict, by_subgroup, compare, evaluate, judge
from platform_assets.core.fitting import feature_frame, fit, settings_of
from platform_assets.core.provenance import code_version, lock_digest
from platform_assets.core.registry import CHAMPION, Registration
from platform_assets.core.splits import split

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.core.artefacts import ArtefactStore, FittedModel
    from platform_assets.core.evaluation import Estimate
    from platform_assets.core.frames import Frame
    from platform_assets.core.models import ModelSpec
    from platform_assets.core.registry import ModelRegistry, ModelVersion
    from platform_assets.core.splits import Split
    from platform_assets.core.tables import TableStore, TableVersion

IMPORTANCE_REPEATS = 5
IMPORTANCE_ROWS = 20_000
SAME_SCORE = 1e-9
"""Scores that differ by less are the same: another order of additions moves the last bits."""

Subgroups = dict[str, dict[str, dict[str, "Estimate"]]]


@dataclass(frozen=True, eq=False)
class Assessment:
    """What a model showed on examples that it was not fitted on.

    Attributes
    ----------
    estimates
        Metrics with intervals.
    subgroups
        The same by column and value.
    difference
        Challenger minus champion on the same examples; None where there is no other champion.
    verdict
        Passed or failed, with every reason.
    importance
        By feature, how much the ranking metric loses when its values are shuffled: mean and standard deviation.
    labels, scores
        Of the examples, (n,) int64 and (n,) float64.
    threshold
        Score from which an example is flagged.
    ranked_by
        The metric whose loss the importance is.
    """

    estimates: Mapping[str, Estimate]
    subgroups: Subgroups
    difference: Mapping[str, Estimate] | None
    verdict: Verdict
    importance: Mapping[str, tuple[float, float]]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float
    ranked_by: str

    @cached_property
    def plots(self) -> Mapping[str, bytes]:
        """PNG bytes by file name; drawn when they are first asked for, which takes longer than most fits."""
        from platform_assets.core import plots

        means, deviations = zip(*self.importance.values(), strict=True)
        return {
            "calibration.png": plots.calibration(self.labels, self.scores),
            "roc.png": plots.roc(self.labels, self.scores),
            "precision_recall.png": plots.precision_recall(self.labels, self.scores, self.threshold),
            "confusion.png": plots.confusion(self.labels, self.scores, self.threshold),
            "importance.png": plots.importance(list(self.importance), means, deviations, self.ranked_by),
            "scores.png": plots.score_distribution(self.labels, self.scores, self.threshold),
        }


@dataclass(frozen=True)
class Training:
    """What came of a training.

    Attributes
    ----------
    version
        The registered version.
    is_new
        Whether it was fitted now, or found by its fingerprint.
    champion
        The version that it was compared with.
    assessment
        Of the stored artefact, on the holdout.
    record
        What was recorded when the version was fitted: leaderboard, parameters, split, metrics.
    first_table_rows
        Rows of the model's first table.
    demo
        Whether some table holds sample data.
    """

    version: ModelVersion
    is_new: bool
    champion: ModelVersion | None
    assessment: Assessment
    record: Mapping[str, Any]
    first_table_rows: int
    demo: bool


@dataclass(frozen=True)
class Evaluation:
    """What a version of a model shows on today's examples.

    Attributes
    ----------
    version
        The version, the champion where there is one.
    examples
        Which examples: those labelled since it was trained, or the holdout where there are none.
    assessment
        What it showed; not compared with any other version.
    """

    version: ModelVersion
    examples: str
    assessment: Assessment


@dataclass(frozen=True)
class Reproduction:
    """A version beside the same training done again.

    Attributes
    ----------
    version
        The version.
    metrics
        By name, as recorded and as found now.
    largest_difference
        Between the two models' scores for any row of the holdout.
    rows
        Rows of the holdout.
    changed
        What is not as it was: code, libraries.
    """

    version: ModelVersion
    metrics: Mapping[str, tuple[float | None, float | None]]
    largest_difference: float
    rows: int
    changed: tuple[str, ...]

    @property
    def other_metrics(self) -> list[str]:
        """Metrics of the holdout that are not what they were."""
        return [name for name, (then, now) in self.metrics.items() if not _same(then, now)]

    @property
    def same(self) -> bool:
        """Whether metrics are what they were, and both models give every row of the holdout the same score."""
        return not self.other_metrics and self.largest_difference <= SAME_SCORE

    def told(self) -> list[str]:
        """For people, line by line."""
        name = f"{self.version.name} version {self.version.version}"
        others = [
            f"{metric}: {self.metrics[metric][0]} then, {self.metrics[metric][1]} now" for metric in self.other_metrics
        ]
        return [
            *(f"not as it was: {change}" for change in self.changed),
            f"scores of {self.rows:,} held-out rows: the largest difference is {self.largest_difference:.3g}",
            f"metrics of the holdout, {len(self.metrics)} numbers: {'; '.join(others) or 'all equal'}",
            f"{name} {'is reproduced' if self.same else 'is NOT reproduced'}",
        ]


@dataclass(frozen=True)
class _Examples:
    frame: Frame
    parts: Split
    inputs: Mapping[str, TableVersion]

    @property
    def training(self) -> Frame:
        return self.frame.iloc[self.parts.train]

    @property
    def holdout(self) -> Frame:
        return self.frame.iloc[self.parts.holdout]

    @property
    def demo(self) -> bool:
        return any(bool(version.metadata.get("demo")) for version in self.inputs.values())


class Trainer:
    """Trains, evaluates and reproduces models.

    Parameters
    ----------
    tables
        Where examples come from.
    artefacts
        Where fitted models are kept.
    registry
        Where versions are recorded.
    """

    def __init__(self, tables: TableStore, artefacts: ArtefactStore, registry: ModelRegistry) -> None:
        self._tables = tables
        self._artefacts = artefacts
        self._registry = registry

    def train(self, spec: ModelSpec, launched_by: str, progress: Callable[[str], None]) -> Training:
        """Train on the current tables, judge on the holdout, register as challenger.

        Where nothing that decides the outcome has changed since a version was trained, that version stands:
        its artefact is loaded and judged again, and nothing is fitted or registered.

        Parameters
        ----------
        spec
            The model.
        launched_by
            Who asked: `user`, `schedule:<name>` or `sensor:<name>`.
        progress
            Told what is going on, line by line.

        Raises
        ------
        TrainingError
            The examples do not allow it.
        TableError, ArtefactError, RegistryError
            A table, the artefact of a known version or the registry is not there.
        """
        examples = self._examples(spec)
        progress(_told(spec, examples))
        champion = self._registry.by_alias(spec.name, CHAMPION)
        mark = fingerprint(spec, {name: version.digest for name, version in examples.inputs.items()})
        known = self._registry.find(spec.name, mark)
        if known is None:
            return self._trained(spec, examples, champion, (mark, launched_by), progress)
        progress(f"version {known.version} was trained on the same data by the same code; it is judged again")
        self._registry.ensure_challenger(spec.name, known.version)
        return self._judged_again(spec, examples, known, champion)

    def judge(self, spec: ModelSpec, number: int) -> Training:
        """Judge a registered version again, on today's holdout and against today's champion; registers nothing.

        Raises
        ------
        TrainingError
            The examples do not allow it.
        TableError, ArtefactError, RegistryError
            A table, the version or its artefact is not there.
        """
        version = self._registry.version(spec.name, number)
        return self._judged_again(spec, self._examples(spec), version, self._registry.by_alias(spec.name, CHAMPION))

    def _judged_again(
        self, spec: ModelSpec, examples: _Examples, known: ModelVersion, champion: ModelVersion | None
    ) -> Training:
        other = champion if champion and champion.version != known.version else None
        return Training(
            version=known,
            is_new=False,
            champion=other,
            assessment=self._assess(spec, self._artefacts.load(known.digest), known.threshold, examples.holdout, other),
            record=self._registry.record(spec.name, known.version),
            first_table_rows=examples.inputs[spec.tables[0]].rows,
            demo=examples.demo,
        )

    def _trained(
        self,
        spec: ModelSpec,
        examples: _Examples,
        champion: ModelVersion | None,
        identity: tuple[str, str],
        progress: Callable[[str], None],
    ) -> Training:
        mark, launched_by = identity
        fitted = fit(spec, examples.training, progress)
        digest = self._artefacts.save(fitted.model)
        # What was stored is judged, not what is in memory.
        model = self._artefacts.load(digest)
        assessment = self._assess(spec, model, fitted.threshold, examples.holdout, champion)
        record = _record(fitted, examples, assessment, champion)
        version = self._registry.register(
            Registration(
                name=spec.name,
                fingerprint=mark,
                digest=digest,
                threshold=fitted.threshold,
                tables={name: version.version for name, version in examples.inputs.items()},
                table_digests={name: version.digest for name, version in examples.inputs.items()},
                metrics=_flat(assessment.estimates),
                parameters=_parameters(spec, fitted),
                tags={
                    "git_commit": code_version(),
                    "lock_digest": lock_digest(),
                    "launched_by": launched_by,
                    "verdict": "passed" if assessment.verdict.passed else "failed",
                    "demo": str(examples.demo).lower(),
                },
                record=record,
                plots=assessment.plots,
                model=model,
            )
        )
        return Training(
            version=version,
            is_new=True,
            champion=champion,
            assessment=assessment,
            record=record,
            first_table_rows=examples.inputs[spec.tables[0]].rows,
            demo=examples.demo,
        )

    def evaluate(self, spec: ModelSpec) -> Evaluation:
        """Judge the champion, or the newest version, on the examples that were labelled since it was trained.

        Raises
        ------
        TrainingError
            The model was never trained.
        TableError, ArtefactError, RegistryError
            A table, the version's artefact or the registry is not there.
        """
        version = self._registry.by_alias(spec.name, CHAMPION) or next(iter(self._registry.versions(spec.name)), None)
        if version is None:
            raise TrainingError(f"{spec.key} was never trained; materialise it, or run the job train_{spec.name}")
        examples = self._examples(spec)
        seen = spec.examples(*(self._tables.scan(name, version=version.tables[name]) for name in spec.tables))
        ids = set(as_frame(seen.select(spec.id))[spec.id])
        fresh = examples.frame[~examples.frame[spec.id].isin(ids)]
        told, chosen = (
            (f"the {len(fresh):,} examples labelled since it was trained", fresh)
            if fresh[spec.label].nunique() > 1
            else (f"the holdout, {len(examples.holdout):,} examples: too few were labelled since", examples.holdout)
        )
        model = self._artefacts.load(version.digest)
        return Evaluation(version, told, self._assess(spec, model, version.threshold, chosen, None))

    def reproduce(self, spec: ModelSpec, number: int, progress: Callable[[str], None]) -> Reproduction:
        """Do a version's training again, from the tables' versions that it names, and compare.

        Raises
        ------
        TrainingError
            A table's version is not the one that the model was trained on.
        TableError, ArtefactError, RegistryError
            A table's version, the artefact or the model's version is not there.
        """
        version = self._registry.version(spec.name, number)
        examples = self._examples(spec, version.tables)
        for name, table in examples.inputs.items():
            if table.digest != version.table_digests[name]:
                raise TrainingError(
                    f"{spec.key} version {number} was trained on {name} with digest {version.table_digests[name]}; "
                    f"version {table.version} of it has {table.digest}: the table was replaced, and cannot be had again"
                )
        progress(_told(spec, examples))
        then = self._artefacts.load(version.digest)
        now = fit(spec, examples.training, progress)
        rows = feature_frame(examples.holdout, spec)
        assessment = self._assess(spec, now.model, now.threshold, examples.holdout, None)
        difference = abs(then.scores(rows) - now.model.scores(rows))
        found = _flat(assessment.estimates) | {"threshold": now.threshold}
        recorded = {**version.metrics, "threshold": version.threshold}
        return Reproduction(
            version=version,
            metrics={name: (recorded.get(name), value) for name, value in found.items()},
            largest_difference=float(difference.max()),
            rows=len(rows),
            changed=_changed(version, then, now.model),
        )

    def _examples(self, spec: ModelSpec, versions: Mapping[str, int] | None = None) -> _Examples:
        inputs = {name: self._version(name, versions[name] if versions else None) for name in spec.tables}
        tables = (self._tables.scan(name, version=version.version) for name, version in inputs.items())
        # The engine gives rows in no order, and fits depend on it.
        frame = as_frame(spec.examples(*tables).order_by(spec.id))
        return _Examples(frame, split(frame[spec.group], frame[spec.time] if spec.time else None, spec.holdout), inputs)

    def _version(self, name: str, number: int | None) -> TableVersion:
        current = self._tables.current(name)
        if current is None:
            raise TableError(f"there is no table {name} yet; materialise the asset first")
        if number is None or number == current.version:
            return current
        for version in self._tables.versions(name):
            if version.version == number:
                return version
        raise TableError(f"{name} has no version {number}; it was removed, or the lake is another one")

    def _assess(
        self,
        spec: ModelSpec,
        model: FittedModel,
        threshold: float,
        examples: Frame,
        champion: ModelVersion | None,
    ) -> Assessment:
        import numpy as np

        labels = examples[spec.label].to_numpy(dtype=np.int64)
        rows, groups = feature_frame(examples, spec), examples[spec.group]
        scores = model.scores(rows)
        estimates = evaluate(labels, scores, groups, threshold, resamples=spec.resamples)
        difference, refusal = None, ""
        if champion is not None:
            try:
                theirs = self._artefacts.load(champion.digest).scores(examples)
                sides = (scores, threshold), (theirs, champion.threshold)
                difference = compare(labels, groups, *sides, resamples=spec.resamples)
            except ArtefactError as error:
                refusal = f"cannot be compared with the champion, version {champion.version}: {error}"
        verdict = judge(estimates, spec.criteria, difference, spec.not_worse)
        if refusal:
            *kept, _ = verdict.reasons
            verdict = Verdict((*kept, Reason(spec.not_worse.name, passed=False, told=refusal)))
        return Assessment(
            estimates=estimates,
            subgroups={
                column: by_subgroup(labels, scores, groups, threshold, examples[column], resamples=spec.resamples)
                for column in spec.subgroups
            },
            difference=difference,
            verdict=verdict,
            importance=_importance(spec, model, rows, labels),
            labels=labels,
            scores=scores,
            threshold=threshold,
            ranked_by=spec.ranked_by,
        )


def fingerprint(spec: ModelSpec, digests: Mapping[str, str]) -> str:
    """What decides the outcome of a training, as one digest: data, code, parameters, library versions.

    Parameters
    ----------
    spec
        The model. Its code is the source of the modules that train, and of the folder that declares it.
    digests
        Content digest by table.
    """
    parts = {
        "tables": dict(sorted(digests.items())),
        "code": _code_digest(spec),
        "parameters": {
            "columns": [spec.id, *spec.feature_names, spec.label, spec.group, spec.time],
            "candidates": [[one.name, settings_of(one)] for one in spec.candidates],
            "holdout": asdict(spec.holdout),
            "folds": spec.folds,
            "ranked_by": spec.ranked_by,
            "threshold": spec.threshold.description,
            "seed": spec.seed,
        },
        "libraries": dict(library_versions()),
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _code_digest(spec: ModelSpec) -> str:
    own = [Path(str(inspect.getsourcefile(module))) for module in (evaluation, fitting, models, splits)]
    declared = Path(str(inspect.getsourcefile(spec.examples))).parent
    digest = hashlib.sha256()
    for file in sorted([*own, *declared.glob("*.py")], key=lambda file: (file.parent.name, file.name)):
        digest.update(f"{file.parent.name}/{file.name}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _told(spec: ModelSpec, examples: _Examples) -> str:
    parts = examples.parts
    cut = f" from {parts.cut:%Y-%m-%d} on" if parts.cut is not None else ""
    return (
        f"{len(parts.train):,} examples to train on, {len(parts.holdout):,} held out (other {spec.group}s{cut}), "
        f"{parts.left_out:,} that are neither"
    )


def _parameters(spec: ModelSpec, fitted: fitting.Fitted) -> dict[str, str]:
    best = {name: str(value) for name, value in fitted.best.parameters.items()}
    return {"candidate": fitted.best.candidate, "seed": str(spec.seed), "folds": str(spec.folds), **best}


def _flat(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Metrics as plain numbers: the value under the metric's name, the interval's ends beside it."""
    return {
        f"{name}{end}": number
        for name, estimate in estimates.items()
        for end, number in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high))
    }


def _record(
    fitted: fitting.Fitted, examples: _Examples, assessment: Assessment, champion: ModelVersion | None
) -> dict[str, Any]:
    parts = examples.parts
    return {
        "candidate": fitted.best.candidate,
        "parameters": {name: str(value) for name, value in fitted.best.parameters.items()},
        "threshold": fitted.threshold,
        "leaderboard": [asdict(one) | {"parameters": dict(one.parameters)} for one in fitted.leaderboard],
        "split": {
            "training_rows": len(parts.train),
            "holdout_rows": len(parts.holdout),
            "left_out_rows": parts.left_out,
            "cut": None if parts.cut is None else f"{parts.cut:%Y-%m-%d}",
        },
        "metrics": {name: one.as_dict() for name, one in assessment.estimates.items()},
        "subgroups": {
            column: {value: {name: one.as_dict() for name, one in found.items()} for value, found in values.items()}
            for column, values in assessment.subgroups.items()
        },
        "verdict": assessment.verdict.as_dict(),
        "champion": champion.version if champion else None,
        "difference": (
            {name: one.as_dict() for name, one in assessment.difference.items()} if assessment.difference else None
        ),
        "importance": {name: list(values) for name, values in assessment.importance.items()},
        "libraries": dict(fitted.model.libraries),
    }


def _importance(
    spec: ModelSpec, model: FittedModel, rows: Frame, labels: NDArray[np.int64]
) -> dict[str, tuple[float, float]]:
    import numpy as np
    from sklearn.frozen import FrozenEstimator
    from sklearn.inspection import permutation_importance

    chosen = np.linspace(0, len(rows) - 1, min(IMPORTANCE_ROWS, len(rows))).astype(int)
    found = permutation_importance(
        FrozenEstimator(model.estimator),
        rows.iloc[chosen],
        labels[chosen],
        scoring=spec.ranked_by,
        n_repeats=IMPORTANCE_REPEATS,
        random_state=spec.seed,
    )
    means, deviations = found.importances_mean, found.importances_std
    return {name: (float(means[at]), float(deviations[at])) for at, name in enumerate(spec.feature_names)}


def _changed(version: ModelVersion, then: FittedModel, now: FittedModel) -> tuple[str, ...]:
    commit, current = version.tags.get("git_commit", "unknown"), code_version()
    code = [f"the code: {commit} then, {current} now"] if commit != current else []
    libraries = [
        f"{name}: {then.libraries.get(name, 'none')} then, {now.libraries.get(name, 'none')} now"
        for name in sorted({*then.libraries, *now.libraries})
        if then.libraries.get(name) != now.libraries.get(name)
    ]
    return tuple(code + libraries)


def _same(then: float | None, now: float | None) -> bool:
    # What is undefined is not recorded.
    if then is None or now is None or math.isnan(now):
        return then is None and (now is None or math.isnan(now))
    return abs(then - now) <= SAME_SCORE
