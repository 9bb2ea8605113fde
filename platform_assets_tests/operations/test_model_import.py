"""Import of bundles: a model that was promoted in one environment becomes a challenger in another."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pytest
from sqlalchemy import make_url

from platform_assets.approval.promotion import Promoter
from platform_assets.approval.requests import State, request_approval
from platform_assets.base.errors import ArtefactError, PlatformError, TrainingError
from platform_assets.database.connections import Database
from platform_assets.evaluation.split_rules import GroupSplit
from platform_assets.evaluation.splits import Holdout
from platform_assets.lake.schemas import Column
from platform_assets.models.registry import CHALLENGER, IMPORTED_TAG
from platform_assets.operations.model_import import import_bundle
from platform_assets.serving.bundles import FILE, BundleError, export
from platform_assets.training.examples import read_pinned_examples
from platform_assets.training.proposal import proposal_of
from platform_assets_tests.approval.proposals import ANNA, BERT, prepared
from platform_assets_tests.postgres import empty_databases
from platform_assets_tests.training.bench import Bench
from platform_assets_tests.training.breakage_model import ONE_CANDIDATE, readings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from platform_assets.approval.ledger import Ledger
    from platform_assets.operations.model_import import Imported
    from platform_assets.services import Services
    from platform_assets.training.model_spec import ModelSpec

SPEC = ONE_CANDIDATE


@dataclass(frozen=True)
class Environment:
    """An environment with its own lake, registry, artefacts and ledger: the services that an import needs."""

    bench: Bench
    database: Database
    ledger: Ledger

    @property
    def registry(self) -> Any:
        return self.bench.registry

    @property
    def artefacts(self) -> Any:
        return self.bench.artefacts

    @property
    def trainer(self) -> Any:
        return self.bench.trainer

    def crown(self, spec: ModelSpec = SPEC) -> None:
        request = request_approval(self.ledger, proposal_of(spec, self.bench.train(spec)))
        assert request is not None
        self.ledger.decide(request.id, "approve", ANNA, "It *finds*\nmost breakages.")
        Promoter(self.ledger, self.registry, self.artefacts, self.database.lock).promote(request.id)

    def imports(self, folder: Path, spec: ModelSpec = SPEC) -> Imported:
        return import_bundle(cast("Services", self), folder, lambda _: spec, BERT)


@contextmanager
def environment(postgres_server: Database, folder: Path, seed: int) -> Iterator[Environment]:
    folder.mkdir()
    with empty_databases(postgres_server) as url, ExitStack() as stack:
        database = Database(make_url(url))
        stack.callback(database.close)
        bench = Bench(folder)
        stack.callback(bench.engine.close)
        bench.publish(readings(seed=seed), demo=True)
        yield Environment(bench, database, prepared(database))


@pytest.fixture(scope="module")
def bundle_folder(postgres_server: Database, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle from another environment, whose model was trained on different readings."""
    folder = tmp_path_factory.mktemp("there")
    with environment(postgres_server, folder / "lake", seed=2) as there:
        there.crown()
        export(there.ledger, there.artefacts, SPEC.name, folder / "bundle")
    return folder / "bundle"


@pytest.fixture
def folder(bundle_folder: Path, tmp_path: Path) -> Path:
    """A copy of the bundle, which a test may alter."""
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


@pytest.fixture
def here(postgres_server: Database, tmp_path: Path) -> Iterator[Environment]:
    with environment(postgres_server, tmp_path / "here", seed=1) as here:
        here.bench.publish(readings(seed=1))
        yield here


@pytest.mark.requirement("OPS-5", "PRO-1")
def test_an_imported_model_is_a_challenger_that_needs_approval_in_its_new_environment(
    here: Environment, folder: Path
) -> None:
    here.crown()
    champion = here.ledger.champion(SPEC.name)
    assert champion is not None
    found = here.imports(folder)
    written = json.loads((folder / FILE).read_text())
    version = here.registry.by_alias(SPEC.name, CHALLENGER)
    assert (found.version, found.is_new, version.version) == (version, True, 2)
    assert (version.digest, version.threshold) == (written["digest"], written["threshold"])
    assert version.tags[IMPORTED_TAG] == "version 1, approved under request 1 in another environment"
    # The training tables are in the other lake. In this lake, the same version numbers refer to different rows.
    assert version.tables == {}
    theirs = json.loads(written["request"]["evidence"])
    assert version.metrics == theirs["registered"]["metrics"]

    request = found.request
    assert request is not None
    assert (request.state, request.requested_by, request.champion) == (
        State.PENDING,
        "bert",
        (champion.version, champion.digest),
    )
    # The evidence comes from this environment's test set, and compares the version with this environment's champion.
    assert request.evidence["metrics"] != theirs["metrics"]
    assert request.evidence["difference"] is not None
    assert request.evidence["demo"] is True
    card = str(request.evidence["card"])
    assert "Approvals in that environment do not count here." in card
    assert "\n    approved by anna at " in card
    assert ": It *finds* most breakages.\n" in card
    assert "\n    trained on somewhere/readings version 0, digest duckdb-" in card
    assert here.ledger.champion(SPEC.name) == champion

    here.ledger.decide(request.id, "approve", ANNA, "better")
    Promoter(here.ledger, here.registry, here.artefacts, here.database.lock).promote(request.id)
    crowned = here.ledger.champion(SPEC.name)
    assert crowned is not None
    assert crowned.digest == version.digest
    assert here.ledger.audit() == []
    assert "the version was imported (version 1, approved under request 1" in here.trainer.evaluate(SPEC).examples
    with pytest.raises(TrainingError, match="its training tables are not in this lake"):
        read_pinned_examples(here.bench.tables, SPEC, version)


@pytest.mark.requirement("OPS-5")
def test_a_second_import_changes_nothing_even_after_a_rejection(here: Environment, folder: Path) -> None:
    with ThreadPoolExecutor(2) as threads:
        found = list(threads.map(lambda _: here.imports(folder), range(2)))
    assert sorted(one.is_new for one in found) == [False, True]
    assert {one.version.version for one in found} == {1}
    [request] = here.ledger.requests(SPEC.name)
    here.ledger.decide(request.id, "reject", ANNA, "Not needed here.")
    again = here.imports(folder)
    assert again.request is not None
    assert (again.is_new, again.request.id, again.request.state) == (False, request.id, State.REJECTED)
    assert len(here.registry.versions(SPEC.name)) == len(here.ledger.requests(SPEC.name)) == 1


def test_an_import_that_cannot_be_evaluated_opens_no_request_and_is_completed_later(
    here: Environment, folder: Path
) -> None:
    # The other environment held out fewer groups, so its training data may include examples of this holdout.
    others = replace(SPEC, split=GroupSplit("device", "day", Holdout(groups=0.9, newest=0.4)))
    with pytest.raises(
        TrainingError, match=r"version 1 cannot be evaluated here: it held out a share of 0\.3 of the values"
    ):
        here.imports(folder, others)
    assert here.ledger.requests(SPEC.name) == []
    found = here.imports(folder)
    assert (found.version.version, found.is_new) == (1, True)


def drop_papers(written: dict[str, Any]) -> None:
    """Remove the part of the evidence that older releases did not write."""
    evidence = json.loads(written["request"]["evidence"])
    del evidence["registered"]
    written["request"]["evidence"] = json.dumps(evidence)


@pytest.mark.requirement("OPS-5")
@pytest.mark.parametrize(
    ("alter", "told"),
    [
        (lambda written: written["request"].update(model="credit_risk_model"), "was altered: its hashes do not match"),
        (lambda written: written["events"][-1].update(actor="eve"), "was altered: its hashes do not match"),
        (lambda written: written.update(bundle=2), "has format 2; this release reads format 1"),
        (lambda written: written.update(threshold=0.01), "differs from its approval record"),
        (drop_papers, "was altered: its hashes do not match"),
    ],
)
def test_an_altered_bundle_is_refused(
    here: Environment, folder: Path, alter: Callable[[dict[str, Any]], None], told: str
) -> None:
    written = json.loads((folder / FILE).read_text())
    alter(written)
    (folder / FILE).write_text(json.dumps(written))
    with pytest.raises(BundleError, match=told):
        here.imports(folder)
    assert here.registry.versions(SPEC.name) == []


def test_a_truncated_model_file_is_refused(here: Environment, folder: Path) -> None:
    [file] = (folder / "models").iterdir()
    file.write_bytes(file.read_bytes()[:1_000])
    with pytest.raises(ArtefactError, match="was altered: the digest of its 1000 bytes is"):
        here.imports(folder)


def test_a_truncated_bundle_description_and_a_path_that_is_not_a_folder_are_refused(
    here: Environment, folder: Path
) -> None:
    with pytest.raises(BundleError, match=r"there is no bundle in .*bundle\.json \(Not a directory"):
        here.imports(folder / FILE)
    (folder / FILE).write_text((folder / FILE).read_text()[:500])
    with pytest.raises(BundleError, match="does not describe a bundle"):
        here.imports(folder)


def test_an_intact_bundle_without_a_training_record_is_refused(
    here: Environment, postgres_server: Database, tmp_path: Path
) -> None:
    with environment(postgres_server, tmp_path / "older", seed=2) as there:
        proposal = proposal_of(SPEC, there.bench.train())
        few = {name: proposal.evidence[name] for name in ("verdict", "metrics", "demo", "tables")}
        request = there.ledger.open_request(replace(proposal, evidence=few))
        there.ledger.decide(request.id, "approve", ANNA, "good")
        Promoter(there.ledger, there.registry, there.artefacts, there.database.lock).promote(request.id)
        export(there.ledger, there.artefacts, SPEC.name, tmp_path / "bundle")
    with pytest.raises(BundleError, match=r"lacks records of breakage_model version 1 \('registered'\)"):
        here.imports(tmp_path / "bundle")


def test_a_model_that_does_not_fit_this_release_is_refused(here: Environment, folder: Path) -> None:
    wider = replace(SPEC, features=(*SPEC.features, Column("age", "float64", "How old.")))
    with pytest.raises(BundleError, match="needs the features heat, noise, but this release has heat, noise, age;"):
        here.imports(folder, wider)

    def unknown(name: str) -> ModelSpec:
        raise PlatformError(f"no model {name}")

    with pytest.raises(PlatformError, match="no model breakage_model"):
        import_bundle(cast("Services", here), folder, unknown, BERT)
    assert here.registry.versions(SPEC.name) == []
