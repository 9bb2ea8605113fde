"""Run one part of the upgrade test with the code of one version: `python -P upgrade_part.py PART FOLDER`.

The program writes its results to `FOLDER/<part>.json`. It runs on the previous and on the current code, so it imports
only modules that exist in both: the command line, definitions, services and settings.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import sys
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
from dagster._core.instance.ref import InstanceRef

import platform_assets
from platform_assets import cli, definitions
from platform_assets.services import open_services
from platform_assets.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from pandas import DataFrame

    from platform_assets.services import Services

Facts = dict[str, Any]

CHECKOUT = Path(platform_assets.__file__).parents[1]
FAILED = "failed"
CREDIT, SENTENCES = MODELS = ("credit_risk_model", "sentence_relevance_model")
LIVE_KEY, LOST_KEY = "anna-laptop", "anna-phone"
SCOPES = {LIVE_KEY: ("approve",), LOST_KEY: ("read", "approve")}
ROWS_AT_FIRST = "3000"
SCORED_ROWS = 200
OF_VERSION = (
    *("digest", "fingerprint", "threshold", "tables", "table_digests", "metrics", "parameters", "tags"),
    *("created_at", "run_id"),
)
OF_REQUEST = (
    *("model", "version", "digest", "threshold", "launched_by", "requested_by", "created_at", "expires_at"),
    *("evidence", "plot_digests", "champion"),
)
OF_EVENT = ("kind", "state", "actor", "authenticated", "reason", "override", "details", "at", "head")
OF_KEY = ("name", "owner", "scopes", "id", "created_at", "revoked_at")


def before(_: Path) -> Facts:
    """Fill a new `PLATFORM_HOME`.

    The sentence model gets a champion and a pending request. The credit risk model gets a rejected and a pending
    request.
    """
    secrets = {name: told("keys", "add", name, "--owner", "anna", *scopes(name)).strip() for name in SCOPES}
    train(SENTENCES, ROWS_AT_FIRST)
    [first] = numbers(SENTENCES)
    told("decide", "approve", first, "--reason", "Finds what matters.", key=secrets[LOST_KEY])
    promote(first)
    told("run")
    [credit] = numbers(CREDIT)
    told("decide", "reject", credit, "--reason", "Too few bad loans for an evaluation.", key=secrets[LIVE_KEY])
    told("decide", "request", CREDIT, 1, key=secrets[LIVE_KEY])
    told("keys", "revoke", LOST_KEY)
    return {"secrets": secrets, "facts": facts(secrets), "made": made()}


def after(folder: Path) -> Facts:
    """Migrate the databases with the current code, approve and promote a pending request, and run the command `run`."""
    secrets = json.loads((folder / "before.json").read_text())["secrets"]
    found: Facts = {"migrate": command("migrate"), "audit": command("audit"), "facts": facts(secrets)}
    newest = numbers(SENTENCES)[0]
    approve = ("decide", "approve", newest, "--reason", "Learned from more.")
    found["refused"] = command(*approve, key=secrets[LOST_KEY])
    found["approved"] = command(*approve, key=secrets[LIVE_KEY])
    found["promoted"] = tried(promote, newest)
    return found | {"decided": made(), "run": command("run"), "made": made()}


def once_more(folder: Path) -> Facts:
    """Run the command `run` again in another process. This must not change anything."""
    secrets = json.loads((folder / "before.json").read_text())["secrets"]
    return {"run": command("run"), "made": made(), "audit": command("audit"), "facts": facts(secrets)}


def command(*words: str | int, key: str = "") -> Facts:
    """Run a command with the API key `key`; return its exit code and output."""
    printed = io.StringIO()
    sys.argv = ["platform-assets", *map(str, words)]
    os.environ["PLATFORM_API_KEY"] = key
    # Open new services, because the command `run` closes the services of the process when it ends.
    definitions.services.cache_clear()
    code: Any = 0
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return {"code": code or 0, "printed": printed.getvalue()}


def told(*words: str | int, key: str = "") -> str:
    """Run a command and return its output; raise `RuntimeError` if it fails."""
    done = command(*words, key=key)
    if done["code"]:
        raise RuntimeError(f"platform-assets {words} exited with code {done['code']}:\n{done['printed']}")
    return str(done["printed"])


def scopes(key: str) -> list[str]:
    return [word for scope in SCOPES[key] for word in ("--scope", scope)]


def train(model: str, rows: str) -> None:
    """Train a model on `rows` rows of demo data."""
    kept, os.environ["PLATFORM_DEMO_ROWS"] = os.environ["PLATFORM_DEMO_ROWS"], rows
    with history() as instance:
        definitions.defs().resolve_job_def(f"train_{model}").execute_in_process(instance=instance)
    definitions.services().close()
    os.environ["PLATFORM_DEMO_ROWS"] = kept


def promote(number: int) -> int:
    """Promote an approved request; return the version of the new champion."""
    with opened() as services:
        return services.promoter.promote(number).version


def numbers(model: str) -> list[int]:
    """Return the numbers of a model's approval requests, newest first."""
    with opened() as services:
        return [request.id for request in services.ledger.requests(model)]


@contextmanager
def opened() -> Iterator[Services]:
    services = open_services(load_settings())
    try:
        yield services
    finally:
        services.close()


@contextmanager
def history() -> Iterator[dg.DagsterInstance]:
    """Open Dagster's instance with the `dagster.yaml` of the code that runs this part."""
    reference = InstanceRef.from_dir(str(load_settings().home / "dagster"), config_dir=str(CHECKOUT))
    with dg.DagsterInstance.from_ref(reference) as instance:
        yield instance


def made() -> Facts:
    """Return what runs and decisions create: model versions, champions, table versions, and states of requests."""
    with opened() as services:
        return {
            "models": {name: [one.version for one in services.registry.versions(name)] for name in MODELS},
            "champions": {name: champion(services, name) for name in MODELS},
            "tables": {name: [one.version for one in services.tables.versions(name)] for name in lake(services)},
            "requests": {request.id: request.state for request in services.ledger.requests()},
        }


def facts(secrets: Mapping[str, str]) -> Facts:
    """Return all facts that an upgrade must keep."""
    with opened() as services, history() as instance:
        return {
            "tables": {name: tried(table, services, name) for name in lake(services)},
            "online": tried(online, services),
            "models": {name: tried(model, services, name) for name in MODELS},
            "requests": tried(requests, services),
            "head": services.ledger.head(),
            "keys": [chosen(key, OF_KEY) for key in services.keys.list()],
            "holders": {name: tried(holder, services, secret) for name, secret in secrets.items()},
            "runs": tried(runs, instance),
            "materialisations": tried(materialisations, instance),
        }


def tried(ask: Callable[..., Any], *arguments: Any) -> Any:
    """Return a function's result.

    If it raises an error, return the error as a fact, so that the other facts are still read.
    """
    try:
        return ask(*arguments)
    except Exception as error:  # noqa: BLE001 - the test reports any error
        return {FAILED: f"{type(error).__name__}: {error}"}


def lake(services: Services) -> list[str]:
    """Return the names of the tables in the lake."""
    root = Path(services.settings.lake)
    return sorted(str(log.parent.relative_to(root)) for log in root.rglob("_delta_log"))


def table(services: Services, name: str) -> Facts:
    """Return for each version of a table the stored digest, the number of rows, and a digest of the rows read now."""
    return {
        str(one.version): [one.digest, one.rows, content(services.tables.read(name, version=one.version))]
        for one in services.tables.versions(name)
    }


def online(services: Services) -> Facts:
    """Return for each online table the stored digest, the number of rows, and a digest of the rows read now."""
    return {
        one.name: [one.digest, one.rows, content(services.online.read(one.name).to_pandas())]
        for one in services.online.versions()
    }


def content(rows: DataFrame) -> str:
    """Return a digest of rows that does not depend on their order."""
    head, *lines = rows.to_csv(index=False).splitlines()
    return digest([head, *sorted(lines)])


def model(services: Services, name: str) -> Facts:
    """Return the champion of a model, and for each version its fields in the registry and its scores."""
    return {
        "champion": champion(services, name),
        "versions": {
            str(version.version): {
                **chosen(version, OF_VERSION),
                "record": tried(lambda one: digest(services.registry.record(name, one.version)), version),
                "scores": tried(scores, services, version),
                "scores_of_mlflows_copy": tried(scores_of_copy, services, version),
            }
            for version in services.registry.versions(name)
        },
    }


def champion(services: Services, name: str) -> Facts:
    """Return the champion according to the ledger, the champion according to the registry, and their differences."""
    in_ledger, in_registry = services.ledger.champion(name), services.registry.by_alias(name, "champion")
    return {
        "ledger": in_ledger and [in_ledger.version, in_ledger.digest, in_ledger.request_id],
        "registry": in_registry and [in_registry.version, in_registry.digest],
        "drift": services.promoter.drifted(name),
    }


def scores(services: Services, version: Any) -> list[float]:
    """Return a version's scores for its golden rows, and for the first rows of its training tables."""
    fitted = services.artefacts.load(version.digest)
    rows = [services.tables.read(name, version=number) for name, number in version.tables.items()]
    there = [one.sort_values([*fitted.features]) for one in rows if {*fitted.features} <= {*one.columns}]
    asked = [fitted.golden_rows, *(one.head(SCORED_ROWS) for one in there)]
    return [float(score) for one in asked for score in fitted.scores(one)]


def scores_of_copy(services: Services, version: Any) -> list[float]:
    """Return the scores that MLflow's copy of the model gives to the golden rows."""
    from mlflow import MlflowClient, pyfunc

    uri = services.mlflow_tracking_uri
    copy = pyfunc.load_model(MlflowClient(uri, uri).get_model_version_download_uri(version.name, str(version.version)))
    found: list[float] = np.asarray(copy.predict(services.artefacts.load(version.digest).golden_rows))[:, 1].tolist()
    return found


def requests(services: Services) -> Facts:
    """Return the state, fields, plot digests and history of each approval request."""
    return {
        str(request.id): {
            "state": request.state,
            **chosen(request, OF_REQUEST),
            "plots": {name: hashlib.sha256(png).hexdigest() for name, png in services.ledger.plots(request.id).items()},
            "history": [chosen(event, OF_EVENT) for event in services.ledger.history(request.id)],
        }
        for request in services.ledger.requests()
    }


def holder(services: Services, secret: str) -> list[str] | None:
    """Return the owner and the scopes of a key, or None if the key is not valid."""
    key = services.keys.check(secret)
    return [key.owner, *sorted(key.scopes)] if key else None


def runs(instance: dg.DagsterInstance) -> Facts:
    """Return for each Dagster run its job, its status, the number of its events, and a digest of these events."""
    return {
        run.run_id: [run.job_name, run.status.value, len(events), digest(events)]
        for run in instance.get_runs()
        for events in [[(one.step_key, one.user_message, str(one.timestamp)) for one in instance.all_logs(run.run_id)]]
    }


def materialisations(instance: dg.DagsterInstance) -> Facts:
    """Return the ids of the runs that materialised each asset."""
    return {
        key.to_user_string(): [record.run_id for record in instance.fetch_materializations(key, 1000).records]
        for key in sorted(instance.all_asset_keys())
    }


def chosen(thing: Any, names: tuple[str, ...]) -> Facts:
    """Return the named attributes as JSON. Other attributes are ignored, because newer code may have added them."""
    found: Facts = json.loads(json.dumps({name: getattr(thing, name) for name in names}, default=plain))
    return found


def plain(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


if __name__ == "__main__":
    part, folder = sys.argv[1], Path(sys.argv[2])
    found = {one.__name__: one for one in (before, after, once_more)}[part](folder)
    (folder / f"{part}.json").write_text(json.dumps({"checkout": str(CHECKOUT), **found}, indent=1))
