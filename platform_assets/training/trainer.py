"""Training as a whole: tables of the lake in, a judged and registered version of a model out.

Everything that has to be the same whoever asks for it, Dagster, a command or a test: which examples,
which of them are held out, when a version counts as known, what is compared with what.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import ArtefactError, RegistryError, TableError, TrainingError
from platform_assets.base.provenance import code_version, lock_digest
from platform_assets.engine.query_engine import as_frame
from platform_assets.evaluation.metrics import Reason, by_subgroup, compare, evaluate, judge, keeps_up, most_wrong
from platform_assets.evaluation.splits import in_holdout, split
from platform_assets.models.registry import CHAMPION, Registration
from platform_assets.training.fingerprints import CODE, PARAMETERS, fingerprint, fingerprint_parts
from platform_assets.training.fitting import demand_sound, feature_frame, fit
from platform_assets.training.model_card import write_card

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.metrics import Estimate, Verdict
    from platform_assets.evaluation.splits import Split
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.lake.table_versions import TableVersion
    from platform_assets.models.artefacts import ArtefactStore, FittedModel
    from platform_assets.models.registry import ModelRegistry, ModelVersion
    from platform_assets.training.explanations import Explanation
    from platform_assets.training.fitting import Fitted
    from platform_assets.training.model_spec import ModelSpec

KNOWN = "groups"
"""Column by which an evaluation tells groups that the model was trained on from others."""
FEWEST_OF_A_CLASS = 20
"""Examples of either class without which newly labelled ones judge nothing."""
MOST_ERRORS = 10
"""Examples of either kind of error that are shown, where any are."""
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
    explanations
        What shows by what the model goes.
    errors
        By kind of error, the examples about which the model is most surely wrong, in the columns that the model's
        declaration names, and their scores; empty where it names none.
    labels, scores
        Of the examples, (n,) int64 and (n,) float64.
    threshold
        Score from which an example is flagged.
    """

    estimates: Mapping[str, Estimate]
    subgroups: Subgroups
    difference: Mapping[str, Estimate] | None
    verdict: Verdict
    explanations: tuple[Explanation, ...]
    errors: Mapping[str, Frame]
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float

    @cached_property
    def plots(self) -> Mapping[str, bytes]:
        """PNG bytes by file name; drawn when they are first asked for, which takes longer than most fits."""
        from platform_assets.evaluation import plots

        return {
            "calibration.png": plots.calibration(self.labels, self.scores),
            "roc.png": plots.roc(self.labels, self.scores),
            "precision_recall.png": plots.precision_recall(self.labels, self.scores, self.threshold),
            "confusion.png": plots.confusion(self.labels, self.scores, self.threshold),
            **{name: png for one in self.explanations for name, png in one.draw().items()},
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
        parts = fingerprint_parts(spec, {name: version.digest for name, version in examples.inputs.items()})
        while (known := self._registry.find(spec.name, fingerprint(parts))) is not None:
            progress(f"version {known.version} was trained on the same data by the same code")
            try:
                return self._known(spec, examples, known)
            except (ArtefactError, RegistryError) as error:
                progress(f"version {known.version} cannot be used any more, and is trained again: {error}")
                # So that whoever trains next finds the new one.
                parts |= {"instead of": known.digest}
        return self._new(spec, examples, (parts, launched_by), progress)

    def judge(self, spec: ModelSpec, number: int) -> Training:
        """Judge a registered version again, on today's holdout and beside today's champion; registers nothing.

        Raises
        ------
        TrainingError
            The examples do not allow it.
        TableError, ArtefactError, RegistryError
            A table, the version or its artefact is not there.
        """
        return self._judged_again(spec, self._examples(spec), self._registry.version(spec.name, number))

    def _known(self, spec: ModelSpec, examples: _Examples, version: ModelVersion) -> Training:
        training = self._judged_again(spec, examples, version)
        self._registry.ensure_challenger(spec.name, version.version)
        return training

    def _judged_again(self, spec: ModelSpec, examples: _Examples, version: ModelVersion) -> Training:
        model, record = self._artefacts.load(version.digest), self._registry.record(spec.name, version.version)
        return Training(
            version=version,
            is_new=False,
            champion=self._registry.by_alias(spec.name, CHAMPION),
            assessment=self._assess(spec, (model, version.threshold), examples.holdout, self._beside(spec, version)),
            record=record,
            first_table_rows=examples.inputs[spec.tables[0]].rows,
            demo=examples.demo,
        )

    def _new(
        self,
        spec: ModelSpec,
        examples: _Examples,
        identity: tuple[Mapping[str, str], str],
        progress: Callable[[str], None],
    ) -> Training:
        parts, launched_by = identity
        fitted = fit(spec, examples.training, progress)
        digest = self._artefacts.save(fitted.model)
        # What was stored is judged, not what is in memory.
        model = self._artefacts.load(digest)
        champion = self._registry.by_alias(spec.name, CHAMPION)
        assessment = self._assess(spec, (model, fitted.threshold), examples.holdout, self._beside(spec, None))
        record = _record(spec, fitted, examples, assessment) | {"champion": champion.version if champion else None}
        version = self._registry.register(
            Registration(
                name=spec.name,
                fingerprint=fingerprint(parts),
                digest=digest,
                threshold=fitted.threshold,
                tables={name: version.version for name, version in examples.inputs.items()},
                table_digests={name: version.digest for name, version in examples.inputs.items()},
                metrics=_flat(assessment.estimates),
                parameters=_parameters(spec, fitted),
                tags={
                    "git_commit": code_version(),
                    "lock_digest": lock_digest(),
                    "code_digest": parts[CODE],
                    "parameters_digest": parts[PARAMETERS],
                    "launched_by": launched_by,
                    "verdict": "passed" if assessment.verdict.passed else "failed",
                    "demo": str(examples.demo).lower(),
                },
                record=record,
                plots=assessment.plots,
                model=model,
            )
        )
        if version.digest != digest:
            # Another process trained the same at the same time, and was first.
            return self._known(spec, examples, version)
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
        told, chosen = self._labelled_since(spec, version, examples)
        model = self._artefacts.load(version.digest)
        return Evaluation(version, told, self._assess(spec, (model, version.threshold), chosen, None, by=(KNOWN,)))

    def _labelled_since(self, spec: ModelSpec, version: ModelVersion, examples: _Examples) -> tuple[str, Frame]:
        """What the version's tables did not have, or else the holdout; and a column that tells groups apart."""
        import numpy as np

        then = spec.examples(*(self._tables.scan(name, version=version.tables[name]) for name in spec.tables))
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
        estimates = evaluate(
            examples.holdout[spec.label],
            now.model.scores(rows),
            examples.holdout[spec.group],
            now.threshold,
            resamples=spec.resamples,
        )
        difference = abs(then.scores(rows) - now.model.scores(rows))
        found = _flat(estimates) | {"threshold": now.threshold}
        recorded = {**version.metrics, "threshold": version.threshold}
        return Reproduction(
            version=version,
            metrics={name: (recorded.get(name), value) for name, value in found.items()},
            largest_difference=float(difference.max()),
            rows=len(rows),
            changed=_changed(version, fingerprint_parts(spec, version.table_digests), (then, now.model)),
        )

    def _examples(self, spec: ModelSpec, versions: Mapping[str, int] | None = None) -> _Examples:
        inputs = {name: self._version(name, versions[name] if versions else None) for name in spec.tables}
        tables = (self._tables.scan(name, version=version.version) for name, version in inputs.items())
        # The engine gives rows in no order, and fits depend on it.
        frame = as_frame(spec.examples(*tables).order_by(spec.id))
        demand_sound(spec, frame)
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

    def _beside(self, spec: ModelSpec, version: ModelVersion | None) -> Callable[[_Judged], _Comparison]:
        """What compares a version, or a new one, with the champion: on its holdout, by its scores and threshold."""
        demand, champion = spec.not_worse, self._registry.by_alias(spec.name, CHAMPION)

        def compared(judged: _Judged) -> _Comparison:
            if champion is None:
                return _Comparison(Reason(demand.name, passed=True, told="there is no champion to compare with"))
            if version is not None and version.version == champion.version:
                return _Comparison(Reason(demand.name, passed=True, told="this version is the champion"))
            try:
                _demand_same_holdout(spec, champion)
                theirs = self._artefacts.load(champion.digest).scores(judged.examples), champion.threshold
            except (ArtefactError, TrainingError) as error:
                told = f"cannot be compared with the champion, version {champion.version}: {error}"
                return _Comparison(Reason(demand.name, passed=False, told=told))
            ours = judged.scores, judged.threshold
            difference = compare(judged.labels, judged.examples[spec.group], ours, theirs, resamples=spec.resamples)
            return _Comparison(keeps_up(demand, difference), difference)

        return compared

    def _assess(
        self,
        spec: ModelSpec,
        fitted: tuple[FittedModel, float],
        examples: Frame,
        beside: Callable[[_Judged], _Comparison] | None,
        by: Sequence[str] = (),
    ) -> Assessment:
        import numpy as np

        model, threshold = fitted
        labels, groups = examples[spec.label].to_numpy(dtype=np.int64), examples[spec.group]
        rows = feature_frame(examples, spec)
        scores = model.scores(rows)
        judged = _Judged(examples, labels, scores, threshold)
        comparison = beside(judged) if beside else _Comparison(None)
        estimates = evaluate(labels, scores, groups, threshold, resamples=spec.resamples)
        return Assessment(
            estimates=estimates,
            subgroups={
                column: by_subgroup(labels, scores, groups, threshold, examples[column], resamples=spec.resamples)
                for column in (*spec.subgroups, *by)
            },
            difference=comparison.difference,
            verdict=judge(estimates, spec.criteria, comparison.reason),
            explanations=tuple(explain(spec, model, rows, labels) for explain in spec.explanations),
            errors=_errors(spec, judged),
            labels=labels,
            scores=scores,
            threshold=threshold,
        )


@dataclass(frozen=True)
class _Judged:
    examples: Frame
    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    threshold: float


@dataclass(frozen=True)
class _Comparison:
    """What the verdict says of the champion, and the differences from it; None where it was not asked for."""

    reason: Reason | None
    difference: Mapping[str, Estimate] | None = None


def _demand_same_holdout(spec: ModelSpec, champion: ModelVersion) -> None:
    """Refuse a champion that may have been trained on what is held out now."""
    group, share = champion.parameters.get("group"), float(champion.parameters.get("holdout_groups", 0))
    if group != spec.group or share < spec.holdout.groups:
        raise TrainingError(
            f"it held out {share:g} of the groups by {group}, and {spec.holdout.groups:g} by {spec.group} are held out "
            "now, so that it may have been trained on what it would be judged by; a person has to decide without it"
        )


def _told(spec: ModelSpec, examples: _Examples) -> str:
    parts = examples.parts
    cut = f" from {parts.cut:%Y-%m-%d} on" if parts.cut is not None else ""
    return (
        f"{len(parts.train):,} examples to train on, {len(parts.holdout):,} held out (of other groups by "
        f"{spec.group}{cut}), {parts.left_out:,} that are neither"
    )


def _parameters(spec: ModelSpec, fitted: Fitted) -> dict[str, str]:
    return {
        "candidate": fitted.best.candidate,
        "seed": str(spec.seed),
        "folds": str(spec.folds),
        "group": spec.group,
        "holdout_groups": str(spec.holdout.groups),
        "holdout_newest": str(spec.holdout.newest),
        **fitted.best.parameters,
    }


def _flat(estimates: Mapping[str, Estimate]) -> dict[str, float]:
    """Metrics as plain numbers: the value under the metric's name, the interval's ends beside it."""
    return {
        f"{name}{end}": number
        for name, estimate in estimates.items()
        for end, number in (("", estimate.value), ("_low", estimate.low), ("_high", estimate.high))
    }


def _record(spec: ModelSpec, fitted: Fitted, examples: _Examples, assessment: Assessment) -> dict[str, Any]:
    parts = examples.parts
    record = {
        "candidate": fitted.best.candidate,
        "parameters": dict(fitted.best.parameters),
        "threshold": fitted.threshold,
        "leaderboard": [asdict(line) for line in fitted.leaderboard],
        "split": {
            "training_rows": len(parts.train),
            "holdout_rows": len(parts.holdout),
            "left_out_rows": parts.left_out,
            "cut": None if parts.cut is None else f"{parts.cut:%Y-%m-%d}",
        },
        "tables": {name: version.version for name, version in examples.inputs.items()},
        "demo": examples.demo,
        "metrics": {name: one.as_dict() for name, one in assessment.estimates.items()},
        "subgroups": {
            column: {value: {name: one.as_dict() for name, one in found.items()} for value, found in values.items()}
            for column, values in assessment.subgroups.items()
        },
        "verdict": assessment.verdict.as_dict(),
        "difference": (
            {name: one.as_dict() for name, one in assessment.difference.items()} if assessment.difference else None
        ),
        **{one.name: one.found for one in assessment.explanations},
        "libraries": dict(fitted.model.libraries),
    }
    return record | {"card": write_card(spec, record)}


def _errors(spec: ModelSpec, judged: _Judged) -> dict[str, Frame]:
    if not spec.error_columns:
        return {}
    scored = judged.examples[list(spec.error_columns)].assign(score=judged.scores)
    wrong = most_wrong(judged.labels, judged.scores, judged.threshold, MOST_ERRORS)
    return {kind: scored.iloc[places] for kind, places in zip(("false_alarms", "missed"), wrong, strict=True)}


def _changed(
    version: ModelVersion, parts: Mapping[str, str], models: tuple[FittedModel, FittedModel]
) -> tuple[str, ...]:
    then, now = (model.libraries for model in models)
    commits = f"{version.tags.get('git_commit', 'unknown')} then, {code_version()} now"
    return (
        *([f"the code that trains: {commits}"] if version.tags.get("code_digest") != parts[CODE] else []),
        *(["the model's parameters"] if version.tags.get("parameters_digest") != parts[PARAMETERS] else []),
        *(
            f"{name}: {then.get(name, 'none')} then, {now.get(name, 'none')} now"
            for name in sorted({*then, *now})
            if then.get(name) != now.get(name)
        ),
    )


def _same(then: float | None, now: float | None) -> bool:
    # What is undefined is not recorded.
    if then is None or now is None or math.isnan(now):
        return then is None and (now is None or math.isnan(now))
    return abs(then - now) <= SAME_SCORE
