"""Validation of a model's declaration."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from sklearn.metrics import get_scorer_names

from platform_assets.base.errors import TrainingError
from platform_assets.evaluation.gate import Criterion, NotWorse
from platform_assets.training.binary_classification import RANKINGS
from platform_assets.training.model_spec import ModelSpec
from platform_assets_tests.training import breakage_model
from platform_assets_tests.training.breakage_model import SPEC

if TYPE_CHECKING:
    from collections.abc import Callable


def declared(changes: dict[str, Any]) -> ModelSpec:
    """Construct a new declaration, as a domain does."""
    return ModelSpec(**{**vars(SPEC), **changes})


@pytest.mark.parametrize("declare", [declared, lambda changes: replace(SPEC, **changes)], ids=["new", "replaced"])
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"criteria": (*SPEC.criteria, Criterion("magic", at_least=1))},
            "criteria names the unknown metric 'magic'. Use one of: roc_auc, average_precision, ",
        ),
        (
            {"not_worse": NotWorse("magic")},
            "not_worse names the unknown metric 'magic'. Use one of: roc_auc, average_precision, ",
        ),
        (
            {"ranked_by": "magic"},
            "ranked_by names the unknown metric 'magic'. Use one of: accuracy, average_precision, ",
        ),
        # A scorer for regression, not for classification.
        ({"ranked_by": "r2"}, "ranked_by names the unknown metric 'r2'. Use one of: accuracy, average_precision, "),
    ],
)
def test_the_error_for_an_unknown_metric_names_the_model_and_its_file(
    declare: Callable[[dict[str, Any]], ModelSpec], changes: dict[str, Any], said: str
) -> None:
    where = f"somewhere/breakage_model, declared in {re.escape(breakage_model.__file__)}: "
    with pytest.raises(TrainingError, match=where + re.escape(said)):
        declare(changes)


def test_every_ranking_metric_is_a_scorer_of_scikit_learn() -> None:
    assert set(RANKINGS) <= set(get_scorer_names())


def test_a_model_key_without_a_domain_is_refused() -> None:
    with pytest.raises(ValueError, match="the model key is 'breakage_model'; it must be <domain>/<name>"):
        replace(SPEC, key="breakage_model")
