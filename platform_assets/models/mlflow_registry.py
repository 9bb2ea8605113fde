"""The model registry in MLflow, where people view, compare and load models with MLflow's tools.

A registration has three steps:

1. Create a finished run with parameters, metrics, plots, record and a copy of the model.
2. Create the version with all its tags. This is one transaction in MLflow's SQL store.
3. Set the alias.

If the process is killed before step 2 is done, the next registration marks the run as killed. If it is killed before
step 3, the next registration of the same model version sets the missing alias.
"""

from __future__ import annotations

import json
import logging
import os
import re
import tempfile
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import RegistryError, first_line
from platform_assets.base.logs import redact, shown
from platform_assets.base.scratch import OwnedFolder
from platform_assets.models.artifact_locations import follow_home
from platform_assets.models.memory_registry import MemoryRegistry
from platform_assets.models.mlflow_copy import MODEL, save_copy
from platform_assets.models.mlflow_tags import DIGEST_TAG, FINGERPRINT_TAG, read_version, table_versions, version_tags
from platform_assets.models.registry import (
    CHALLENGER,
    ModelVersion,
    Registration,
    finite,
    named_digests,
    pinned,
    refuse_field_tags,
    refuse_no_alias,
    unknown,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from contextlib import AbstractContextManager

    from mlflow import MlflowClient
    from mlflow.entities.model_registry import ModelVersion as MlflowVersion

    from platform_assets.models.registry import ModelRegistry
    from platform_assets.settings import Settings

PLOTS = "plots"
"""Name of the folder for the plots in a run's artifacts."""
DESCRIPTION = (
    "Promoting a version here changes nothing: the service serves the version that was approved and promoted in the "
    "platform (the service's page /approvals). The alias `champion` is a copy for display."
)
"""Description of every registered model in MLflow."""
RECORD = "record.json"
"""Name of the record's file in a run's artifacts."""
_CONNECT_SECONDS = 5
_LONGEST_REASON = 500
# Defaults for unset environment variables. Without them, MLflow retries for four minutes and prints to the console.
_ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}


def open_registry(
    settings: Settings, tracking_uri: Callable[[], str], lock: Callable[[str], AbstractContextManager[Any]]
) -> ModelRegistry:
    """Open the registry: in memory if the lake is in memory, else in MLflow.

    Parameters
    ----------
    settings
        The platform's settings.
    tracking_uri
        Function that returns the URI of MLflow's tracking server or migrated database.
    lock
        See `MlflowRegistry`.
    """
    if settings.lake_is_memory:
        return MemoryRegistry()
    uri = tracking_uri()
    # A tracking server chooses the artifact folder itself. With a database, MLflow would use the current folder.
    artifact_root = None if uri.startswith(("http://", "https://")) else str(settings.home / "mlflow")
    return MlflowRegistry(uri, artifact_root, lock, scratch=settings.scratch)


class MlflowRegistry:
    """`ModelRegistry` in MLflow.

    Parameters
    ----------
    tracking_uri
        MLflow's tracking server or migrated database.
    artifact_root
        Folder of the runs' files if the tracking URI is a database; None if a tracking server chooses it.
    lock
        Function that takes a name and returns a lock. Only one process at a time can hold the lock of a given name.
        The lock is released when the process ends.
    scratch
        Folder for temporary files; by default the system's.
    client
        MLflow client; by default one for the tracking URI.
    """

    def __init__(
        self,
        tracking_uri: str,
        artifact_root: str | None,
        lock: Callable[[str], AbstractContextManager[Any]],
        *,
        scratch: Path | None = None,
        client: MlflowClient | None = None,
    ) -> None:
        self._uri = tracking_uri
        self._artifact_root = artifact_root
        self._lock = lock
        self._scratch = scratch or Path(tempfile.gettempdir())
        self._given = client

    def register(self, registration: Registration) -> ModelVersion:
        """Create a version, or return the one with this fingerprint; see `ModelRegistry`."""
        name = registration.name
        with self._plain_errors(), self._registering(name):
            version = self.find(name, registration.fingerprint)
            if version is None:
                version = self._made(registration)
            self._give_challenger(version)
            return version

    def ensure_challenger(self, name: str, number: int) -> None:
        """Give the alias `challenger` to a version; see `ModelRegistry`."""
        with self._plain_errors(), self._registering(name):
            self._give_challenger(self.version(name, number))

    def find(self, name: str, fingerprint: str) -> ModelVersion | None:
        """Return the version with a fingerprint, or None."""
        found = self._search(f"name = '{name}' and tags.`{FINGERPRINT_TAG}` = '{fingerprint}'")
        # Take the oldest of several versions. MLflow's client repeats a request if the response is lost, so one
        # registration can create two versions.
        return min(_readable(found), key=lambda version: version.version, default=None)

    def version(self, name: str, number: int) -> ModelVersion:
        """Return a version; see `ModelRegistry`."""
        from mlflow.exceptions import MlflowException

        with self._plain_errors():
            try:
                found = self._client.get_model_version(name, str(number))
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                raise unknown(name, number, self.versions(name), self._names()) from None
        if FINGERPRINT_TAG not in found.tags:
            raise RegistryError(
                f"{name} version {number} was not registered by the platform; train the model with the platform"
            )
        return read_version(found)

    def versions(self, name: str) -> list[ModelVersion]:
        """Return all readable versions that the platform registered, newest first."""
        ours = _readable(self._search(f"name = '{name}'"))
        return sorted(ours, key=lambda version: version.version, reverse=True)

    def unreadable_versions(self, name: str) -> Mapping[int, str]:
        """Return the platform's versions whose tags cannot be read; see `ModelRegistry`."""
        reasons = {}
        for found in self._search(f"name = '{name}'"):
            if FINGERPRINT_TAG in found.tags:
                try:
                    read_version(found)
                except RegistryError as error:
                    reasons[int(found.version)] = str(error)
        return reasons

    def by_alias(self, name: str, alias: str) -> ModelVersion | None:
        """Return the version with an alias, or None."""
        with self._plain_errors():
            found = self._client.search_registered_models(f"name = '{name}'")
        number = found[0].aliases.get(alias) if found else None
        return None if number is None else self.version(name, int(number))

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Move an alias to a version; see `ModelRegistry`."""
        refuse_no_alias(alias)
        self.version(name, number)
        with self._plain_errors():
            self._client.set_registered_model_alias(name, alias, str(number))

    def drop_alias(self, name: str, alias: str) -> None:
        """Remove an alias if it exists."""
        refuse_no_alias(alias)
        with self._plain_errors():
            if self._client.search_registered_models(f"name = '{name}'"):
                self._client.delete_registered_model_alias(name, alias)

    def set_tags(self, name: str, number: int, tags: Mapping[str, str]) -> None:
        """Set tags of a version; see `ModelRegistry`."""
        refuse_field_tags(name, tags)
        self.version(name, number)
        with self._plain_errors():
            for tag, value in tags.items():
                self._client.set_model_version_tag(name, str(number), tag, value)

    def names(self) -> list[str]:
        """Return the names of the models with versions that the platform registered; see `ModelRegistry`."""
        return sorted({found.name for found in self._search() if FINGERPRINT_TAG in found.tags})

    def record(self, name: str, number: int) -> dict[str, Any]:
        """Return the record of a version; see `ModelRegistry`."""
        return self._record(self.version(name, number).run_id)

    def _record(self, run_id: str) -> dict[str, Any]:
        with self._plain_errors(), self._folder() as folder:
            path = self._client.download_artifacts(run_id, RECORD, str(folder))
            found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
        return found

    def pinned_tables(self) -> Mapping[str, set[int]]:
        """Return the table versions on which the registered models were trained; see `ModelRegistry`."""
        return pinned(self._tables(found) for found in self._search())

    def named_artefacts(self) -> set[str]:
        """Return the digests of the artefacts and encoders of all versions; see `ModelRegistry`."""
        return named_digests([read_version(found) for found in self._search() if FINGERPRINT_TAG in found.tags])

    def _tables(self, found: MlflowVersion) -> dict[str, int]:
        """Return a version's training tables. Read them from its tag or, if the tag is unreadable, from its record."""
        try:
            return table_versions(found)
        except RegistryError as unreadable:
            try:
                tables = self._record(str(found.run_id or ""))["tables"]
                return {str(table): int(number) for table, number in tables.items()}
            except (RegistryError, KeyError, TypeError, ValueError, AttributeError):
                raise unreadable from None

    @cached_property
    def _client(self) -> MlflowClient:
        if self._given is not None:
            return self._given
        for variable, value in _ENVIRONMENT.items():
            os.environ.setdefault(variable, value)
        _refuse_silence(self._uri)
        from mlflow import MlflowClient

        # Silence MLflow's log, which would bypass the platform's log. MLflow raises every error that it logs.
        logging.getLogger("mlflow").setLevel(logging.CRITICAL)
        client = MlflowClient(self._uri, self._uri)
        if self._artifact_root:
            # Call this after the client is created: in a new database, MlflowClient creates the default experiment.
            follow_home(self._uri, Path(self._artifact_root))
        return client

    def _registering(self, name: str) -> AbstractContextManager[Any]:
        return self._lock(f"register {name}")

    def _search(self, wanted: str | None = None) -> list[MlflowVersion]:
        found: list[MlflowVersion] = []
        token = None
        with self._plain_errors():
            while True:
                page = self._client.search_model_versions(wanted, page_token=token)
                found += page
                if not (token := page.token):
                    return found

    def _names(self) -> list[str]:
        # Search versions, not models, because a killed process can leave a model without versions.
        return sorted({found.name for found in self._search()})

    def _made(self, registration: Registration) -> ModelVersion:
        name = registration.name
        experiment = self._experiment(name)
        self._mark_killed(experiment, registration.fingerprint)
        run_id, artifacts = self._log(experiment, registration)
        self._describe(name)
        made = self._client.create_model_version(name, f"{artifacts}/{MODEL}", run_id, tags=version_tags(registration))
        return read_version(made)

    def _describe(self, name: str) -> None:
        """Create a registered model with the description, or add the description if an older release left it out."""
        found = self._client.search_registered_models(f"name = '{name}'")
        if not found:
            self._client.create_registered_model(name, description=DESCRIPTION)
        elif not found[0].description:
            self._client.update_registered_model(name, DESCRIPTION)

    def _experiment(self, name: str) -> str:
        found = self._client.get_experiment_by_name(name)
        if found is None:
            location = f"{self._artifact_root}/{name}" if self._artifact_root else None
            return self._client.create_experiment(name, location)
        if found.lifecycle_stage != "active":
            self._client.restore_experiment(found.experiment_id)
        return str(found.experiment_id)

    def _mark_killed(self, experiment: str, fingerprint: str) -> None:
        """Mark unfinished runs as killed. The caller holds the lock, so no other registration is in progress."""
        unfinished = (
            f"tags.`{FINGERPRINT_TAG}` = '{fingerprint}' and attributes.status != 'KILLED'",
            f"tags.`{FINGERPRINT_TAG}` LIKE '%' and attributes.status = 'RUNNING'",
        )
        for wanted in unfinished:
            for run in self._client.search_runs([experiment], wanted):
                self._client.set_terminated(run.info.run_id, "KILLED")

    def _log(self, experiment: str, registration: Registration) -> tuple[str, str]:
        """Create a finished run with all files; return its id and the location of its files."""
        from mlflow.entities import Metric, Param

        tags = {FINGERPRINT_TAG: registration.fingerprint, DIGEST_TAG: registration.digest, **registration.tags}
        run = self._client.create_run(experiment, tags=tags, run_name=registration.fingerprint[:12])
        run_id, now = run.info.run_id, run.info.start_time
        parameters = dict(registration.parameters)
        if registration.threshold is not None:
            parameters["threshold"] = registration.threshold
        self._client.log_batch(
            run_id,
            metrics=[Metric(name, value, now, 0) for name, value in finite(registration.metrics).items()],
            params=[Param(name, str(value)) for name, value in parameters.items()],
        )
        with self._folder() as folder:
            (folder / RECORD).write_text(json.dumps(dict(registration.record), indent=1), encoding="utf-8")
            (folder / PLOTS).mkdir()
            for name, png in registration.plots.items():
                (folder / PLOTS / name).write_bytes(png)
            save_copy(registration.model, folder / MODEL, run_id)
            self._client.log_artifacts(run_id, str(folder))
        self._client.set_terminated(run_id, "FINISHED")
        return run_id, run.info.artifact_uri

    def _give_challenger(self, version: ModelVersion) -> None:
        self._client.set_registered_model_alias(version.name, CHALLENGER, str(version.version))

    @contextmanager
    def _folder(self) -> Iterator[Path]:
        folder = OwnedFolder(self._scratch, "registry")
        try:
            # Use a subfolder with default permissions. MLflow copies the folder's permissions to the artifacts, and
            # only the owner can read the outer folder.
            (open_to_others := folder.path / "run").mkdir()
            yield open_to_others
        finally:
            folder.remove()

    @contextmanager
    def _plain_errors(self) -> Iterator[None]:
        import requests
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (requests.RequestException, SQLAlchemyError, OSError) as error:
            raise self._failed(error) from None
        except Exception as error:
            if type(error).__module__.split(".")[0] != "mlflow":
                raise
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> RegistryError:
        reason = redact(shown(first_line(error)), (self._uri,))[:_LONGEST_REASON]
        return RegistryError(
            f"the registry in MLflow ({shown(self._uri)}) failed: {type(error).__name__}: {reason}; start MLflow "
            "or correct PLATFORM_MLFLOW_TRACKING_URI; `platform-assets doctor` tests the connection"
        )


def _readable(found: Iterable[MlflowVersion]) -> Iterator[ModelVersion]:
    """Yield the versions that the platform registered, except those with unreadable tags.

    `unreadable_versions` returns the versions with unreadable tags.
    """
    for version in found:
        if FINGERPRINT_TAG in version.tags:
            with suppress(RegistryError):
                yield read_version(version)


def _refuse_silence(uri: str) -> None:
    """Raise at once if the registry cannot be reached; MLflow's client would retry a database for minutes."""
    import requests
    from sqlalchemy import create_engine, make_url
    from sqlalchemy.exc import ArgumentError

    if re.match(r"https?://", uri):
        requests.get(f"{uri.rstrip('/')}/health", timeout=_CONNECT_SECONDS)
        return
    try:
        is_postgres = make_url(uri).get_backend_name() == "postgresql"
    except ArgumentError:
        return
    if is_postgres:
        engine = create_engine(uri, connect_args={"connect_timeout": _CONNECT_SECONDS})
        try:
            engine.connect().close()
        finally:
            engine.dispose()
