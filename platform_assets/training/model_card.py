"""The model card, from the model's declaration and the record of its training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.printable_text import numbers_in_order
from platform_assets.evaluation.estimate_text import told_estimate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from platform_assets.training.model_spec import ModelSpec


def write_card(spec: ModelSpec, record: Mapping[str, Any]) -> str:
    """Return the card of a trained version as Markdown.

    Parameters
    ----------
    spec
        Declaration of the model.
    record
        Record of the training, with `tables`, `split`, `verdict`, `subgroups`, `demo` and the task's facts.
    """
    card, split = spec.card, record["split"]
    tables = "; ".join(f"{name} version {number}" for name, number in record["tables"].items())
    cut = f", from {split['cut']} on" if split["cut"] else ""
    paragraphs = {
        "Purpose": card.purpose,
        "Who acts on it": card.acted_on_by,
        "Business KPI": f"{card.business_kpi.name}. Owner: {card.business_kpi.owner}. "
        f"Target: {card.business_kpi.target}.",
        "Technical KPI": card.technical_kpi,
        "Label": card.label,
        "Objective": card.objective,
        **_encoder(spec, record),
        "Data": f"{card.data} Trained on {tables}." + (" **Sample data, not real data.**" if record["demo"] else ""),
        "Splits": f"{split['training_rows']:,} training examples; {split['holdout_rows']:,} held out ("
        f"{spec.split.description}{cut}); {split['left_out_rows']:,} left out.",
        "Quality gate": "\n".join(_gate(record["verdict"])),
        **spec.task.told_facts(record),
        "Subgroups": "\n".join(_subgroups(spec, record["subgroups"])) or "None.",
        "Limits": "\n".join(f"- {limit}" for limit in card.limits),
    }
    return "\n\n".join(f"**{title}**\n\n{text}" for title, text in paragraphs.items())


def _encoder(spec: ModelSpec, record: Mapping[str, Any]) -> dict[str, str]:
    for one in spec.candidates:
        if one.name == record["candidate"] and one.encoder:
            digest = record["parameters"][one.encoder.parameter]
            told = f"The files in {one.encoder.variable}, digest {digest}. The encoder was not trained further."
            return {"Sentence encoder": told}
    return {}


def _gate(verdict: Mapping[str, Any]) -> Iterator[str]:
    yield "Passed." if verdict["passed"] else "**FAILED.**"
    yield from (f"- {reason['told']}" for reason in verdict["reasons"] if verdict["passed"] or not reason["passed"])


def _subgroups(spec: ModelSpec, subgroups: Mapping[str, Any]) -> Iterator[str]:
    for column, values in subgroups.items():
        for value, metrics in sorted(values.items(), key=lambda entry: numbers_in_order(entry[0])):
            told = (f"{label} {told_estimate(metrics[name])}" for name, label in spec.task.card_metrics.items())
            yield f"- {column} {value}, {metrics['rows']['value']:,.0f} examples: {', '.join(told)}"
