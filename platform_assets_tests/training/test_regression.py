"""Training of regression models: fit, leaderboard, fingerprint, errors and Dagster definitions."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pytest

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.conformal import Intervals
from platform_assets.evaluation.gate import Criterion
from platform_assets.evaluation.split_rules import GroupSplit
from platform_assets.evaluation.time_split import TimeSplit
from platform_assets.models.registry import CHAMPION
from platform_assets.training.explanations import decision_surface
from platform_assets.training.fingerprints import fingerprint_parts
from platform_assets.training.fitting import demand_sound, fit
from platform_assets.training.regression import REFERENCE, Regression
from platform_assets_tests.requirements import ROOT
from platform_assets_tests.training import load_model
from platform_assets_tests.training.load_model import LOAD, TABLE, loads
from platform_assets_tests.training.test_assets import Workshop, checks, workshop

if TYPE_CHECKING:
    from platform_assets.training.model_spec import ModelSpec
    from platform_assets_tests.training.bench import Bench

__all__ = ["workshop"]
RIDGE = replace(LOAD, candidates=LOAD.candidates[:1])


def publish(bench: Any, frame: pd.DataFrame) -> None:
    with bench.engine.stage(frame) as staged:
        bench.tables.publish(TABLE, staged, metadata={"demo": False})


@pytest.mark.requirement("ESI-7", "PRO-1")
def test_the_best_candidate_is_fitted_with_intervals_from_earlier_folds() -> None:
    frame = loads(40)
    fitted = fit(LOAD, frame, lambda _: None)
    assert fitted.threshold is None
    assert fitted.best.candidate == "ridge"
    assert fitted.leaderboard[-1].candidate == REFERENCE
    metrics = fitted.best.metrics
    assert list(metrics)[-3:] == ["rows", "interval_coverage", "interval_width"]
    for line in fitted.leaderboard:
        assert set(LOAD.task.leaderboard_metrics) <= set(line.metrics)
    # The noise is three times as high in the evening, so only the intervals of the evening may be wide.
    found = fitted.model.predict(frame)
    half = pd.Series(found["upper"] - found["value"]).groupby(frame["hour"]).first()
    assert half[half.index >= 18].min() > 1.5 * half[half.index < 18].max()
    np.testing.assert_array_equal(fitted.model.golden_scores, fitted.model.outputs(fitted.model.golden_rows))


@pytest.mark.requirement("ESI-7", "PLT-7", "PRO-2")
def test_a_regression_is_retrained_reproduced_and_compared_with_the_champion(bench: Bench) -> None:
    publish(bench, loads(50))
    first = bench.train(RIDGE)
    assert first.version.threshold is None
    assert first.record["task"] == "regression"
    assert not bench.train(RIDGE).is_new
    bench.registry.set_alias(LOAD.name, CHAMPION, 1)
    publish(bench, loads(58))
    second = bench.train(RIDGE)
    told = second.assessment.verdict.reasons[-1].told
    assert re.match(r"MAE differs from the champion's by [-+][\d.]+ \(", told)
    assert second.assessment.difference is not None
    assert set(second.assessment.difference) == set(second.assessment.estimates)
    reproduction = bench.trainer.reproduce(RIDGE, 1, lambda _: None)
    assert reproduction.same, reproduction.told()
    assert bench.trainer.evaluate(RIDGE).examples == "192 examples labelled since the version was trained"


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize(
    "changed",
    [
        replace(LOAD, task=Regression("MW", Intervals(0.8, by="hour"), ("week_before_mw",))),
        replace(LOAD, task=Regression("MW", Intervals(0.9), ("week_before_mw",))),
        replace(LOAD, split=TimeSplit("at", "day", newest=0.25, gap=1)),
    ],
)
def test_the_fingerprint_of_a_regression_depends_on_its_intervals_and_its_split(changed: ModelSpec) -> None:
    assert fingerprint_parts(changed, {})["parameters"] != fingerprint_parts(LOAD, {})["parameters"]


@pytest.mark.parametrize(
    ("column", "values", "said"),
    [
        ("load_mw", [1.5, np.nan, 2.5], "in 1 examples, load_mw is missing or infinite; drop them"),
        ("load_mw", [1.5, np.inf, 2.5], "in 1 examples, load_mw is missing or infinite; drop them"),
        ("load_mw", ["many", "few", "none"], "in all 3 examples, load_mw has the type str, not a number"),
        ("load_mw", [True, False, True], "in all 3 examples, load_mw has the type bool, not a number"),
        ("week_before_mw", None, "does not return these columns: 'week_before_mw'"),
        ("day", None, "does not return these columns: 'day'"),
    ],
)
def test_the_error_names_wrong_labels_and_missing_columns(column: str, values: list[Any] | None, said: str) -> None:
    frame = loads(1).head(3)
    frame = frame.drop(columns=column) if values is None else frame.assign(**{column: values})
    with pytest.raises(TrainingError, match=re.escape(f"somewhere/load_model: examples of {TABLE}")) as error:
        demand_sound(LOAD, frame)
    assert said in str(error.value)


def test_labels_are_converted_to_floats_without_rounding() -> None:
    task = LOAD.task
    assert task.labels(pd.Series([0.25, 1.75])).tolist() == [0.25, 1.75]
    assert task.labels(pd.Series([1, 2], dtype="Int64")).dtype == np.float64
    with pytest.raises(TrainingError, match="1 examples"):
        task.labels(pd.Series([1, None], dtype="Int64"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"criteria": (Criterion("roc_auc", at_least=0.7),)},
            "criteria names the unknown metric 'roc_auc'. Use one of: mae, ",
        ),
        ({"criteria": (Criterion("skill_over_x", at_least=0.7),)}, "unknown metric 'skill_over_x'"),
        ({"ranked_by": "roc_auc"}, "ranked_by names the unknown metric 'roc_auc'. Use one of: neg_mean_absolute_error"),
        ({"task": Regression("MW", Intervals(by="day"), ("week_before_mw",))}, "Intervals.by is day, but must be a"),
    ],
)
def test_a_declaration_that_does_not_fit_a_regression_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(TrainingError, match=re.escape(f"declared in {load_model.__file__}: ")) as error:
        replace(LOAD, **changes)
    assert said in str(error.value)


def test_training_that_cannot_succeed_is_refused_with_the_reason(bench: Bench) -> None:
    publish(bench, loads(50).assign(load_mw=7.0))
    with pytest.raises(TrainingError, match="somewhere/load_model: the 264 training examples of fold 1 of 3 all have"):
        bench.train(RIDGE)
    publish(bench, loads(3))
    with pytest.raises(TrainingError, match="day has 2 values in the training set, which are too few for 3 folds"):
        bench.train(RIDGE)
    publish(bench, loads(30))
    with pytest.raises(TrainingError, match="decision_surface is only for classifiers"):
        bench.train(replace(RIDGE, explanations=(decision_surface,)))


@pytest.mark.requirement("ESI-7")
def test_a_regression_on_rows_without_times_can_be_split_by_group() -> None:
    split = GroupSplit("row")
    spec = replace(RIDGE, split=split)
    frame = loads(20)
    fitted = fit(spec, frame.iloc[split.split(frame, frame["load_mw"].to_numpy()).train], lambda _: None)
    assert (fitted.best.metrics["mae"] or 0) > 0


@pytest.mark.requirement("ESI-7", "PLT-13", "PRO-1")
def test_a_declaration_alone_gives_an_asset_with_checks_and_plots(workshop: Workshop) -> None:
    publish(workshop, loads(40))
    result = workshop.run("train_load_model", definitions=workshop.defined(RIDGE))
    assert result.success
    [materialisation] = result.asset_materializations_for_node("somewhere__load_model")
    metadata = materialisation.metadata
    plots = {name for name in metadata if name.startswith("plot_")}
    assert plots == {
        *("plot_last_week", "plot_residuals", "plot_values", "plot_error_by_group", "plot_coverage_by_group"),
        "plot_importance",
    }
    assert "threshold" not in metadata
    assert "| weekend" in str(metadata["metrics_by_weekend"].value)
    assert "Skill over week_before_mw, out of fold" in str(metadata["leaderboard"].value)
    assert "Prediction intervals" in str(metadata["card"].value)
    assert {name: check.passed for name, check in checks(result).items()} == {
        "skill_over_week_before_mw_is_at_least_0_1": True,
        "mape_is_at_most_0_04": True,
        "interval_coverage_is_at_least_0_8": True,
        "mae_is_not_worse_than_champion": True,
    }


def test_the_code_in_the_documentation_is_part_of_the_load_model() -> None:
    page = (ROOT / "docs" / "regression.md").read_text(encoding="utf-8")
    code = (ROOT / "platform_assets_tests" / "training" / "load_model.py").read_text(encoding="utf-8")
    snippets = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(snippets) == 2
    assert [snippet for snippet in snippets if snippet not in code] == []
