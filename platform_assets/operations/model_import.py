"""Import of a bundle: a model from another environment becomes a challenger in this environment.

The other environment's approvals and metrics are shown to the approver for information only. The version is evaluated
on this environment's test set, and must be approved here. A bundle's hashes show that it was not damaged. They do not
show who wrote it, so import bundles only from environments that you trust.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from platform_assets.approval.requests import request_approval
from platform_assets.models.registry import IMPORTED_TAG, Registration
from platform_assets.serving.bundles import BundleError, open_bundle
from platform_assets.training.proposal import proposal_of

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from platform_assets.approval.requests import Actor, Request
    from platform_assets.models.fitted_model import FittedModel
    from platform_assets.models.registry import ModelVersion
    from platform_assets.services import Services
    from platform_assets.serving.bundles import Bundle
    from platform_assets.training.model_spec import ModelSpec

_KEPT_TAGS = ("git_commit", "code_version", "lock_digest", "code_digest", "parameters_digest")
"""Tags of the other environment's version that also apply here."""


@dataclass(frozen=True)
class Imported:
    """Result of an import.

    Attributes
    ----------
    version
        The version in this environment's registry.
    request
        The newest request for its approval; None if the version is the champion and has no request.
    is_new
        Whether this import opened the request.
    """

    version: ModelVersion
    request: Request | None
    is_new: bool


def import_bundle(services: Services, folder: Path, find_model: Callable[[str], ModelSpec], actor: Actor) -> Imported:
    """Register the model of a bundle as a challenger, evaluate it here, and request its approval.

    Importing a bundle again, even in another process at the same time, creates no second version or request. If an
    import was interrupted, the next import completes it.

    Parameters
    ----------
    services
        This environment's services.
    folder
        Folder that `platform-assets export` wrote in the other environment.
    find_model
        Function that returns the declaration of a model.
    actor
        The person who imports.

    Raises
    ------
    BundleError
        The folder is not an intact bundle, or its model does not fit the declaration of this release.
    ArtefactError
        The model's file is missing or was altered, or does not reproduce its golden rows.
    PlatformError
        No domain of this environment declares the model.
    TrainingError, TableError
        The model cannot be evaluated on this environment's data.
    """
    bundle = open_bundle(folder)
    spec = find_model(bundle.model)
    model = bundle.store.load(bundle.digest)
    _demand_fitting(bundle, model, spec)
    registration = _registration(bundle, model)
    with services.database.lock(f"import {bundle.model}"):
        known = [one for one in services.registry.versions(bundle.model) if one.digest == bundle.digest]
        version = known[0] if known else _stored(services, bundle, registration)
        requests = [one for one in services.ledger.requests(bundle.model) if one.digest == bundle.digest]
        if requests:
            return Imported(version, requests[0], is_new=False)
        training = services.trainer.judge(spec, version.version)
        request = request_approval(services.ledger, proposal_of(spec, training, actor))
    return Imported(version, request, is_new=request is not None)


def _stored(services: Services, bundle: Bundle, registration: Registration) -> ModelVersion:
    from platform_assets.models.text_estimators import encoders_of

    for digest in encoders_of(registration.model.estimator):
        services.artefacts.add_encoder(bundle.store.read_encoder(digest))
    services.artefacts.add(bundle.store.read(bundle.digest))
    return services.registry.register(registration)


def _demand_fitting(bundle: Bundle, model: FittedModel, spec: ModelSpec) -> None:
    """Refuse a model whose features or task differ from the declaration."""
    named = f"{bundle.model} version {bundle.version} in {bundle.folder}"
    fix = "install the same release in both environments, or train the model here"
    if list(model.features) != spec.feature_names:
        raise BundleError(
            f"{named} needs the features {', '.join(model.features)}, but this release has "
            f"{', '.join(spec.feature_names)}; {fix}"
        )
    task = bundle.evidence.get("record", {}).get("task", spec.task.name)
    if task != spec.task.name:
        raise BundleError(f"{named} is for the task {task}, but this release has {spec.task.name}; {fix}")


def _registration(bundle: Bundle, model: FittedModel) -> Registration:
    """Return the registration of a bundle's model.

    The registration names no tables, because the training tables are in the other environment's lake. The training
    record names these tables.
    """
    evidence = bundle.evidence
    try:
        papers, record = evidence["registered"], dict(evidence["record"])
        tables = {name: (number, evidence["table_digests"][name]) for name, number in evidence["tables"].items()}
        tags = {name: str(papers["tags"][name]) for name in _KEPT_TAGS if name in papers["tags"]}
        metrics = {name: float(value) for name, value in papers["metrics"].items()}
        parameters = dict(papers["parameters"])
        card = str(record["card"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BundleError(
            f"{bundle.folder} lacks records of {bundle.model} version {bundle.version} ({error}), so it can be served, "
            "but not imported; approve the version again with the current release, and export it again"
        ) from None
    origin = f"version {bundle.version}, approved under request {bundle.approval_id} in another environment"
    return Registration(
        name=bundle.model,
        fingerprint=f"imported:{bundle.digest}",
        digest=bundle.digest,
        threshold=bundle.threshold,
        tables={},
        table_digests={},
        metrics=metrics,
        parameters=parameters,
        tags={**tags, "launched_by": "import", IMPORTED_TAG: origin, "demo": str(bundle.demo).lower()},
        record={
            **record,
            "card": f"{_paragraph(origin, bundle, tables)}\n\n{card}",
            "imported": {"request": dict(bundle.frozen.request), "events": [dict(one) for one in bundle.frozen.events]},
        },
        plots={},
        model=model,
    )


def _paragraph(origin: str, bundle: Bundle, tables: Mapping[str, tuple[Any, Any]]) -> str:
    """Return the card's paragraph about the other environment.

    Texts from that environment are put in a code block, so that they are not rendered as Markdown.
    """
    lines = [
        *(f"trained on {name} version {number}, digest {digest}" for name, (number, digest) in tables.items()),
        *bundle.approved,
    ]
    told = "\n".join(f"    {' '.join(line.split())}" for line in lines)
    return (
        f"**Imported**\n\nThis is {origin}. Approvals in that environment do not count here. The rest of this card, "
        f"except the limits, describes the training and evaluation in that environment.\n\n{told}"
    )
