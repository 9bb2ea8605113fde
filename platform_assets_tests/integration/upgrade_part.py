"""A part of the upgrade test's story, on the code of one version: `python -P upgrade_part.py PART FOLDER`.

What was found goes into `FOLDER/<part>.json`. The same file runs on the code of the version before and on today's, so
it imports of the platform only what both have in one place: command line, definitions, services, settings.
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
    """A home is lived with: of one model there is a champion and a version that waits; the other waits again."""
    secrets = {name: told("keys", "add", name, "--owner", "anna", *scopes(name)).strip() for name in SCOPES}
    train(SENTENCES, ROWS_AT_FIRST)
    [first] = numbers(SENTENCES)
    told("decide", "approve", first, "--reason", "Finds what matters.", key=secrets[LOST_KEY])
    promote(first)
    told("run")
    [credit] = numbers(CREDIT)
    told("decide", "reject", credit, "--reason", "Too few bad loans to judge it by.", key=secrets[LIVE_KEY])
    told("decide", "request", CREDIT, 1, key=secrets[LIVE_KEY])
    told("keys", "revoke", LOST_KEY)
    return {"secrets": secrets, "facts": facts(secrets), "made": made()}


def after(folder: Path) -> Facts:
    """The code is another: the databases are migrated, one of what waits is decided about, and all is made anew."""
    secrets = json.loads((folder / "before.json").read_text())["secrets"]
    found: Facts = {"migrate": command("migrate"), "audit": command("audit"), "facts": facts(secrets)}
    newest = numbers(SENTENCES)[0]
    approve = ("decide", "approve", newest, "--reason", "Learned from more.")
    found["refused"] = command(*approve, key=secrets[LOST_KEY])
    found["approved"] = command(*approve, key=secrets[LIVE_KEY])
    found["promoted"] = tried(promote, newest)
    return found | {"decided": made(), "run": command("run"), "made": made()}


def once_more(folder: Path) -> Facts:
    """All is made anew again, by a process of its own, and nothing is new."""
    secrets = json.loads((folder / "before.json").read_text())["secrets"]
    return {"run": command("run"), "made": made(), "audit": command("audit"), "facts": facts(secrets)}


def command(*words: str | int, key: str = "") -> Facts:
    """Exit code of a command and what it prints; `key` is the secret of who gives it."""
    printed = io.StringIO()
    sys.argv = ["platform-assets", *map(str, words)]
    os.environ["PLATFORM_API_KEY"] = key
    # What `run` opens is closed at its end, which elsewhere is the end of the process.
    definitions.services.cache_clear()
    code: Any = 0
    with redirect_stdout(printed), redirect_stderr(printed):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return {"code": code or 0, "printed": printed.getvalue()}


def told(*words: str | int, key: str = "") -> str:
    """What a command prints that has to succeed."""
    done = command(*words, key=key)
    if done["code"]:
        raise RuntimeError(f"platform-assets {words} ended with {done['code']}:\n{done['printed']}")
    return str(done["printed"])


def scopes(key: str) -> list[str]:
    return [word for scope in SCOPES[key] for word in ("--scope", scope)]


def train(model: str, rows: str) -> None:
    """Launch a model's training, on so many rows of demo data."""
    kept, os.environ["PLATFORM_DEMO_ROWS"] = os.environ["PLATFORM_DEMO_ROWS"], rows
    with history() as instance:
        definitions.defs().resolve_job_def(f"train_{model}").execute_in_process(instance=instance)
    definitions.services().close()
    os.environ["PLATFORM_DEMO_ROWS"] = kept


def promote(number: int) -> int:
    """Do what the job `promote_model` does for a request; the version that is the champion."""
    with opened() as services:
        return services.promoter.promote(number).version


def numbers(model: str) -> list[int]:
    """Of a model's requests, the newest first."""
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
    """Dagster's instance, as the `dagster.yaml` beside this code describes it."""
    reference = InstanceRef.from_dir(str(load_settings().home / "dagster"), config_dir=str(CHECKOUT))
    with dg.DagsterInstance.from_ref(reference) as instance:
        yield instance


def made() -> Facts:
    """What there is of everything that grows."""
    with opened() as services:
        return {
            "models": {name: [one.version for one in services.registry.versions(name)] for name in MODELS},
            "champions": {name: champion(services, name) for name in MODELS},
            "tables": {name: [one.version for one in services.tables.versions(name)] for name in lake(services)},
            "requests": {request.id: request.state for request in services.ledger.requests()},
        }


def facts(secrets: Mapping[str, str]) -> Facts:
    """All that has to outlive an upgrade."""
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
    """What is asked for; or why it cannot be had, so that the rest is asked for as well."""
    try:
        return ask(*arguments)
    except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
        return {FAILED: f"{type(error).__name__}: {error}"}


def lake(services: Services) -> list[str]:
    """Names of the tables in the lake."""
    root = Path(services.settings.lake)
    return sorted(str(log.parent.relative_to(root)) for log in root.rglob("_delta_log"))


def table(services: Services, name: str) -> Facts:
    """Of each version of a table its digest, number of rows, and a digest of the rows as they are read now."""
    return {
        str(one.version): [one.digest, one.rows, content(services.tables.read(name, version=one.version))]
        for one in services.tables.versions(name)
    }


def online(services: Services) -> Facts:
    """The same of the tables that programs read one by one."""
    return {
        one.name: [one.digest, one.rows, content(services.online.read(one.name).to_pandas())]
        for one in services.online.versions()
    }


def content(rows: DataFrame) -> str:
    """A digest of rows, whatever their order."""
    head, *lines = rows.to_csv(index=False).splitlines()
    return digest([head, *sorted(lines)])


def model(services: Services, name: str) -> Facts:
    """The champion, and of each version what the registry keeps of it and how it scores."""
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
    """What the ledger and the registry say of who is the champion."""
    in_ledger, in_registry = services.ledger.champion(name), services.registry.by_alias(name, "champion")
    return {
        "ledger": in_ledger and [in_ledger.version, in_ledger.digest, in_ledger.request_id],
        "registry": in_registry and [in_registry.version, in_registry.digest],
        "drift": services.promoter.drifted(name),
    }


def scores(services: Services, version: Any) -> list[float]:
    """Of the rows that the model carries with it, and of rows of its tables."""
    fitted = services.artefacts.load(version.digest)
    rows = [services.tables.read(name, version=number) for name, number in version.tables.items()]
    there = [one.sort_values([*fitted.features]) for one in rows if {*fitted.features} <= {*one.columns}]
    asked = [fitted.golden_rows, *(one.head(SCORED_ROWS) for one in there)]
    return [float(score) for one in asked for score in fitted.scores(one)]


def scores_of_copy(services: Services, version: Any) -> list[float]:
    """The same by MLflow's own tools, of the rows that the model carries with it."""
    from mlflow import MlflowClient, pyfunc

    uri = services.mlflow_tracking_uri
    copy = pyfunc.load_model(MlflowClient(uri, uri).get_model_version_download_uri(version.name, str(version.version)))
    found: list[float] = np.asarray(copy.predict(services.artefacts.load(version.digest).golden_rows))[:, 1].tolist()
    return found


def requests(services: Services) -> Facts:
    """Each request as it was frozen, its plots, and its history."""
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
    """Whom a key lets in, and to what; None if nobody."""
    key = services.keys.check(secret)
    return [key.owner, *sorted(key.scopes)] if key else None


def runs(instance: dg.DagsterInstance) -> Facts:
    """Of each run its job, how it ended, how many events there are of it, and a digest of them."""
    return {
        run.run_id: [run.job_name, run.status.value, len(events), digest(events)]
        for run in instance.get_runs()
        for events in [[(one.step_key, one.user_message, str(one.timestamp)) for one in instance.all_logs(run.run_id)]]
    }


def materialisations(instance: dg.DagsterInstance) -> Facts:
    """The runs that made each asset."""
    return {
        key.to_user_string(): [record.run_id for record in instance.fetch_materializations(key, 1000).records]
        for key in sorted(instance.all_asset_keys())
    }


def chosen(thing: Any, names: tuple[str, ...]) -> Facts:
    """Some attributes as JSON has them; a later version of the code may have more."""
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
