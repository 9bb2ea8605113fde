"""The model card contains texts from the declaration and numbers from the training."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from platform_assets_tests.training.breakage_model import readings

if TYPE_CHECKING:
    from platform_assets_tests.training.bench import Bench


@pytest.mark.requirement("PLT-11")
def test_the_card_contains_the_declaration_and_the_results_of_training(bench: Bench) -> None:
    bench.publish(readings(), demo=True)
    bench.publish(readings(1_250), demo=True)
    training = bench.train()
    card = training.record["card"]
    for said in (
        "Which device will break?",
        "A mechanic looks at it.",
        "hours of standstill. Owner: head of operations. Target: halved within a year.",
        "It broke within a week.",
        "Only devices with a thermometer.",
        "somewhere/readings version",
        "Sample data, not real data.",
        f"{training.record['split']['training_rows']:,} training examples",
        "- site north, ",
        "Passed.\n- ROC AUC is 0.",
    ):
        assert said in card
    assert training.demo
