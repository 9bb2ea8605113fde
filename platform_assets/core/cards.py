"""A model's card: what people have to know before they rely on it, from its declaration and its last numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from platform_assets.core.models import ModelSpec
    from platform_assets.core.training import Training


def write_card(spec: ModelSpec, training: Training) -> str:
    """The card of a trained version, as Markdown."""
    card, split = spec.card, training.record["split"]
    tables = "; ".join(f"{name} version {number}" for name, number in training.version.tables.items())
    cut = f", from {split['cut']} on" if split["cut"] else ""
    verdict = training.assessment.verdict
    faults = "".join(f"\n- {reason.told}" for reason in verdict.reasons if not reason.passed)
    paragraphs = {
        "Purpose": card.purpose,
        "Who acts on it": card.acted_on_by,
        "Business KPI": f"{card.business_kpi.name}. Owner: {card.business_kpi.owner}. "
        f"Target: {card.business_kpi.target}.",
        "Technical KPI": card.technical_kpi,
        "Label": card.label,
        "Objective": card.objective,
        "Data": f"{card.data} Trained on {tables}." + (" **Sample data, not real ones.**" if training.demo else ""),
        "Splits": f"{split['training_rows']:,} examples to train on; {split['holdout_rows']:,} held out: other "
        f"{spec.group}s{cut}; {split['left_out_rows']:,} are neither, and left out.",
        "Quality gate": "Passed." if verdict.passed else f"**FAILED.**{faults}",
        "Limits": "\n".join(f"- {limit}" for limit in card.limits),
    }
    return "\n\n".join(f"**{title}**\n\n{text}" for title, text in paragraphs.items())
