"""Training, evaluation and reproduction of models, from tables of the lake to registered versions.

Dagster assets and commands both call `Trainer`, so they use the same examples, holdout, fingerprints and comparisons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from platform_assets.base.errors import ArtefactError, RegistryError, TrainingError
from platform_assets.base.provenance import code_version, git_commit, lock_digest
from platform_assets.evaluation.gate import Reason, judge, keeps_up
from platform_assets.evaluation.judged import Judged
from platform_assets.models.registry import CHAMPION, ERASED_TAG, Registration, champion_or_newest
from platform_assets.training.encoders import with_encoders
from platform_assets.training.examples import (
    KNOWN,
    Examples,
    labelled_since,
    not_trained_on,
    read_examples,
    read_pinned_examples,
    split_summary,
)
from platform_assets.training.explanations import HeldOut
from platform_assets.training.fingerprints import CODE, PARAMETERS, fingerprint, fingerprint_parts
from platform_assets.training.fitting import feature_frame, fit, labels_of
from platform_assets.training.training_results import (
    Assessment,
    Evaluation,
    Reproduction,
    Training,
    curve_plots,
)
from platform_assets.training.version_record import flat_metrics, recorded_parameters, write_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from platform_assets.base.frames import Frame
    from platform_assets.evaluation.intervals import Estimate
    from platform_assets.lake.delta_tables import TableStore
    from platform_assets.models.artefact_store import ArtefactStore
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.models.registry import ModelRegistry, ModelVersion
    from platform_assets.training.encoders import Encoders
    from platform_assets.training.model_spec import ModelSpec

MOST_ERRORS = 10
"""Maximum number of wrongly predicted examples shown per kind of error."""


class Trainer:
    """Trains, evaluates and reproduces models.

    Parameters
    ----------
    tables
        Store of the input tables.
    artefacts
        Store of the fitted models.
    registry
        Registry of the model versions.
    encoders
        Loads and stores sentence encoders; None if no model uses one.
    """

    def __init__(
        self,
        tables: TableStore,
        artefacts: ArtefactStore,
        registry: ModelRegistry,
        encoders: Encoders | None = None,
    ) -> None:
        self._tables = tables
        self._artefacts = artefacts
        self._registry = registry
        self._encoders = encoders

    def train(self, spec: ModelSpec, launched_by: str, progress: Callable[[str], None]) -> Training:
        """Train on the current tables, evaluate on the holdout, and register the version as challenger.

        If a version with the same fingerprint exists, its artefact is loaded and evaluated again, and
        nothing is fitted or registered.

        Parameters
        ----------
        spec
            Declaration of the model.
        launched_by
            Launcher of the training: `user`, `schedule:<name>` or `sensor:<name>`.
        progress
            Callback that receives progress messages.

        Raises
        ------
        TrainingError
            The examples are invalid, too few, or cannot be split.
        SourceError
            The sentence encoder is unreachable or damaged.
        TableError, ArtefactError, RegistryError
            A table, the artefact of a known version or the registry is unavailable.
        """
        spec = self._encoders.bound(spec, progress) if self._encoders else with_encoders(spec, {})
        examples = read_examples(self._tables, spec)
        progress(split_summary(spec, examples))
        parts = fingerprint_parts(spec, {name: version.digest for name, version in examples.inputs.items()})
        while (known := self._registry.find(spec.name, fingerprint(parts))) is not None:
            progress(f"version {known.version} was trained on the same data by the same code; nothing to fit")
            try:
                return self._known(spec, examples, known)
            except (ArtefactError, RegistryError) as error:
                progress(f"version {known.version} is unusable and will be retrained: {error}")
                # Give the replacement another fingerprint, so that the next training run finds the replacement and not
                # this version.
                parts |= {"instead of": known.digest}
        return self._new(spec, examples, (parts, launched_by), progress)

    def judge(self, spec: ModelSpec, number: int) -> Training:
        """Re-evaluate a registered version on the current holdout, against the current champion.

        Raises
        ------
        TrainingError
            The examples are invalid or cannot be split.
        TableError, ArtefactError, RegistryError
            A table, the version or its artefact does not exist.
        """
        return self._judged_again(spec, read_examples(self._tables, spec), self._registry.version(spec.name, number))

    def _known(self, spec: ModelSpec, examples: Examples, version: ModelVersion) -> Training:
        training = self._judged_again(spec, examples, version)
        self._registry.ensure_challenger(spec.name, version.version)
        return training

    def _judged_again(self, spec: ModelSpec, examples: Examples, version: ModelVersion) -> Training:
        model, record = self._artefacts.load(version.digest), self._registry.record(spec.name, version.version)
        holdout = not_trained_on(spec, version, examples.holdout)
        return Training(
            version=version,
            is_new=False,
            champion=self._registry.by_alias(spec.name, CHAMPION),
            assessment=self._assess(spec, (model, version.threshold), holdout, self._beside(spec, version)),
            record=record,
            first_table_rows=examples.inputs[spec.tables[0]].rows,
            # An imported version may have been trained on sample data, although this environment has real data.
            demo=examples.demo or version.tags.get("demo") == "true",
        )

    def _new(
        self,
        spec: ModelSpec,
        examples: Examples,
        identity: tuple[Mapping[str, str], str],
        progress: Callable[[str], None],
    ) -> Training:
        parts, launched_by = identity
        fitted = fit(spec, examples.training, progress)
        digest = self._artefacts.save(fitted.model)
        # The stored artefact is evaluated instead of the model in memory, because the artefact will be served.
        model = self._artefacts.load(digest)
        champion = self._registry.by_alias(spec.name, CHAMPION)
        assessment = self._assess(spec, (model, fitted.threshold), examples.holdout, self._beside(spec, None))
        record = write_record(spec, fitted, examples, assessment) | {"champion": champion.version if champion else None}
        version = self._registry.register(
            Registration(
                name=spec.name,
                fingerprint=fingerprint(parts),
                digest=digest,
                threshold=fitted.threshold,
                tables={name: version.version for name, version in examples.inputs.items()},
                table_digests={name: version.digest for name, version in examples.inputs.items()},
                metrics=flat_metrics(assessment.estimates),
                parameters=recorded_parameters(spec, fitted, examples.parts),
                tags={
                    **({"git_commit": commit} if (commit := git_commit()) else {}),
                    "code_version": code_version(),
                    "lock_digest": lock_digest(),
                    "code_digest": parts[CODE],
                    "parameters_digest": parts[PARAMETERS],
                    "launched_by": launched_by,
                    "verdict": "passed" if assessment.verdict.passed else "failed",
                    "demo": str(examples.demo).lower(),
                },
                record=record,
                plots={**assessment.plots, **curve_plots(record)},
                model=model,
            )
        )
        if version.digest != digest:
            # Another process registered the same training first.
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
        """Evaluate the champion, or else the newest version, on examples labelled since its training.

        Raises
        ------
        TrainingError
            The model has no version.
        TableError, ArtefactError, RegistryError
            A table, the version's artefact or the registry is unavailable.
        """
        version = champion_or_newest(self._registry, spec.name)
        if version is None:
            raise TrainingError(f"{spec.key} has no version yet; materialise it, or run the job train_{spec.name}")
        examples = read_examples(self._tables, spec)
        told, chosen = labelled_since(self._tables, spec, version, examples)
        model = self._artefacts.load(version.digest)
        return Evaluation(version, told, self._assess(spec, (model, version.threshold), chosen, None, by=(KNOWN,)))

    def reproduce(self, spec: ModelSpec, number: int, progress: Callable[[str], None]) -> Reproduction:
        """Retrain a version from its recorded table versions, and compare the two models.

        Raises
        ------
        TrainingError
            The content of a table version differs from the recorded one, or a person's data were erased from it.
        TableError, ArtefactError, RegistryError
            A table version, the artefact or the model version does not exist.
        """
        version = self._registry.version(spec.name, number)
        if erased := version.tags.get(ERASED_TAG):
            raise TrainingError(
                f"{spec.name} version {number} cannot be reproduced: its training data included a person whose data "
                f"were erased ({erased}); train a new version"
            )
        record = self._registry.record(spec.name, number)
        spec = self._encoders.bound_again(spec, record) if self._encoders else with_encoders(spec, {})
        examples = read_pinned_examples(self._tables, spec, version)
        progress(split_summary(spec, examples))
        then = self._artefacts.load(version.digest)
        now = fit(spec, examples.training, progress)
        rows, labels = feature_frame(examples.holdout, spec), labels_of(spec, examples.holdout)
        outputs = [model.outputs(rows) for model in (then, now.model)]
        judged = Judged(examples.holdout, spec.group, labels, outputs[1], now.threshold)
        estimates = spec.task.evaluate(judged, spec.resamples)
        # Compare only recorded metrics, because older releases recorded fewer metrics.
        estimates = {name: one for name, one in estimates.items() if name in record["metrics"]}
        found: dict[str, float | None] = {**flat_metrics(estimates), "threshold": now.threshold}
        recorded: dict[str, float | None] = {**version.metrics, "threshold": version.threshold}
        return Reproduction(
            version=version,
            metrics={name: (recorded.get(name), value) for name, value in found.items()},
            largest_difference=float(abs(outputs[0] - outputs[1]).max()),
            rows=len(rows),
            changed=_changed(version, fingerprint_parts(spec, version.table_digests), (then, now.model)),
            scale=then.output.scale(outputs[0]),
        )

    def _beside(self, spec: ModelSpec, version: ModelVersion | None) -> Callable[[Judged], _Comparison]:
        """Return a function that compares the metrics of a model with those of the champion.

        `version` is the registered version of the model; None if it is not registered yet.
        """
        demand, champion = spec.not_worse, self._registry.by_alias(spec.name, CHAMPION)

        def compared(judged: Judged) -> _Comparison:
            if champion is None:
                return _Comparison(Reason(demand.name, passed=True, told="there is no champion to compare with"))
            if version is not None and version.version == champion.version:
                return _Comparison(Reason(demand.name, passed=True, told="this version is the champion"))
            try:
                shared = judged.only(spec.split.held_out(champion.parameters, judged.examples, judged.labels))
                found = self._artefacts.load(champion.digest).outputs(shared.examples)
                theirs = replace(shared, found=found, threshold=champion.threshold)
                difference = spec.task.compare(shared, theirs, spec.resamples)
            except (ArtefactError, TrainingError) as error:
                told = f"cannot be compared with the champion, version {champion.version}: {error}"
                return _Comparison(Reason(demand.name, passed=False, told=told))
            reason = keeps_up(demand, difference)
            if len(shared.labels) < len(judged.labels):
                some = f"the {len(shared.labels):,} of {len(judged.labels):,} held-out examples"
                told = f"{reason.told}; compared on {some} that the champion was not trained on"
                reason = replace(reason, told=told)
            return _Comparison(reason, difference)

        return compared

    def _assess(
        self,
        spec: ModelSpec,
        fitted: tuple[FittedModel, float | None],
        examples: Frame,
        beside: Callable[[Judged], _Comparison] | None,
        by: Sequence[str] = (),
    ) -> Assessment:
        model, threshold = fitted
        rows, labels = feature_frame(examples, spec), labels_of(spec, examples)
        judged = Judged(examples, spec.group, labels, model.outputs(rows), threshold)
        held_out = HeldOut(rows, labels, threshold)
        comparison = beside(judged) if beside else _Comparison(None)
        estimates = spec.task.evaluate(judged, spec.resamples)
        return Assessment(
            spec=spec,
            judged=judged,
            estimates=estimates,
            subgroups={
                column: spec.task.by_subgroup(judged, examples[column], spec.resamples)
                for column in (*spec.subgroups, *by)
            },
            difference=comparison.difference,
            verdict=judge(estimates, spec.criteria, comparison.reason),
            explanations=tuple(explain(spec, model, held_out) for explain in spec.explanations),
            errors=_errors(spec, judged),
        )


@dataclass(frozen=True)
class _Comparison:
    """Result of the comparison with the champion: the reason in the verdict, and the differences of the metrics.

    `reason` is None if no comparison was requested. `difference` is None if nothing was compared.
    """

    reason: Reason | None
    difference: Mapping[str, Estimate] | None = None


def _errors(spec: ModelSpec, judged: Judged) -> dict[str, Frame]:
    if not spec.error_columns:
        return {}
    scored = judged.examples[list(spec.error_columns)].assign(score=judged.scores)
    return {kind: scored.iloc[places] for kind, places in spec.task.worst(judged, MOST_ERRORS).items()}


def _changed(
    version: ModelVersion, parts: Mapping[str, str], models: tuple[FittedModel, FittedModel]
) -> tuple[str, ...]:
    then, now = (model.libraries for model in models)
    # Versions from older releases have the code version in the tag `git_commit`.
    code = version.tags.get("code_version") or version.tags.get("git_commit", "unknown")
    commits = f"was {code}, is {code_version()}"
    return (
        *([f"training code: {commits}"] if version.tags.get("code_digest") != parts[CODE] else []),
        *(["model parameters"] if version.tags.get("parameters_digest") != parts[PARAMETERS] else []),
        *(
            f"{name}: was {then.get(name, 'not used')}, is {now.get(name, 'not used')}"
            for name in sorted({*then, *now})
            if then.get(name) != now.get(name)
        ),
    )
