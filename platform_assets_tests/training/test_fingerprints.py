"""Fingerprints of training runs: which changes to the declaration and the data change a fingerprint."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from platform_assets.evaluation.gate import Criterion
from platform_assets.evaluation.split_rules import GroupSplit
from platform_assets.evaluation.splits import Holdout
from platform_assets.evaluation.thresholds import reaching_recall
from platform_assets.lake.schemas import Column
from platform_assets.training.binary_classification import BinaryClassification
from platform_assets.training.fingerprints import fingerprint_parts
from platform_assets.training.fitting import feature_frame
from platform_assets.training.model_spec import Candidate
from platform_assets_tests.training.breakage_model import SPEC, TABLE, linear

if TYPE_CHECKING:
    from platform_assets.training.model_spec import ModelSpec


@pytest.mark.requirement("PLT-7")
@pytest.mark.parametrize(
    "changed",
    [
        replace(SPEC, seed=2),
        replace(SPEC, folds=4),
        replace(SPEC, split=GroupSplit("device", "day", Holdout(groups=0.3, newest=0.3))),
        replace(SPEC, task=BinaryClassification("broken", reaching_recall(0.9))),
        replace(SPEC, ranked_by="average_precision"),
        replace(SPEC, candidates=SPEC.candidates[:1]),
        replace(SPEC, candidates=(Candidate("linear", linear, {"logisticregression__C": (0.1, 2.0)}),)),
        replace(SPEC, features=(*SPEC.features, Column("weight", "float64", "How heavy."))),
        # Replace `examples` by a function with different code.
        replace(SPEC, examples=feature_frame),
    ],
)
def test_changes_that_affect_the_model_change_the_fingerprint(changed: ModelSpec) -> None:
    assert fingerprint_parts(changed, {TABLE: "a"}) != fingerprint_parts(SPEC, {TABLE: "a"})


def test_the_fingerprint_depends_on_data_but_not_on_descriptions_and_criteria() -> None:
    assert fingerprint_parts(SPEC, {TABLE: "a"}) != fingerprint_parts(SPEC, {TABLE: "b"})
    told = replace(SPEC, description="Other words.", criteria=(Criterion("brier", at_most=0.1),))
    assert fingerprint_parts(told, {TABLE: "a"}) == fingerprint_parts(SPEC, {TABLE: "a"})
