"""Send lineage as OpenLineage events to a catalogue, such as Marquez or DataHub.

Each materialisation of an asset is sent as one run of an OpenLineage job. Its inputs are the table versions and source
files that the materialisation read. The format is specified in https://openlineage.io/spec/2-0-2/OpenLineage.json.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import PlatformError
from platform_assets.base.logs import shown

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent

NAMESPACE = "platform_assets"
"""Namespace of the jobs, tables and models."""
PRODUCER = "urn:platform-assets"
_RUNS = uuid.UUID("6b1f0c1e-5d0f-4a57-9d5b-3f2f7a0c8c11")
_SECONDS = 10.0


class LineageError(PlatformError):
    """The receiver of lineage events cannot be reached, or refused an event."""


@dataclass(frozen=True)
class Materialised:
    """A materialisation of an asset.

    Attributes
    ----------
    asset
        Key of the asset, `<domain>/<name>`.
    run, job
        Id and job of the Dagster run; empty if there is no run.
    started_at, at
        Time at which the run started, and time of the materialisation.
    facts
        Metadata of the materialisation without Dagster's types, for example `version`, `digest`, `inputs` and `source`.
    """

    asset: str
    run: str
    job: str
    started_at: datetime
    at: datetime
    facts: Mapping[str, Any] = field(default_factory=dict)


def events_of(materialised: Materialised) -> list[RunEvent]:
    """Return the two events of a materialisation: the start and the completion of its OpenLineage run."""
    from openlineage.client.event_v2 import RunEvent, RunState

    run, job = _run(materialised), _job(materialised)
    inputs, outputs = _inputs(materialised.facts), [_output(materialised)]
    return [
        RunEvent(
            eventType=state, eventTime=at.isoformat(), run=run, job=job, inputs=inputs, outputs=made, producer=PRODUCER
        )
        for state, at, made in (
            (RunState.START, materialised.started_at, []),
            (RunState.COMPLETE, materialised.at, outputs),
        )
    ]


def _run(materialised: Materialised) -> Run:
    from openlineage.client.event_v2 import Run
    from openlineage.client.facet_v2 import parent_run, processing_engine_run

    # A Dagster run makes several assets, and each asset is sent as a run of its own job. Derive the id of this run from
    # the Dagster run and the asset, so that sending an event again changes nothing. A rollback of a table has no
    # Dagster run; use the time of the rollback instead.
    of_run = materialised.run or materialised.at.isoformat()
    engine = processing_engine_run.ProcessingEngineRunFacet(
        version=str(materialised.facts.get("code", "unknown")), name=NAMESPACE, producer=PRODUCER
    )
    facets: dict[str, Any] = {"processing_engine": engine}
    if materialised.run:
        parent = parent_run.Job(NAMESPACE, materialised.job)
        facets["parent"] = parent_run.ParentRunFacet(parent_run.Run(materialised.run), parent, producer=PRODUCER)
    return Run(str(uuid.uuid5(_RUNS, f"{of_run}/{materialised.asset}")), facets)


def _job(materialised: Materialised) -> Job:
    from openlineage.client.event_v2 import Job
    from openlineage.client.facet_v2 import job_type_job

    kind = "MODEL" if "model_version" in materialised.facts else "ASSET"
    facet = job_type_job.JobTypeJobFacet("BATCH", "DAGSTER", kind, producer=PRODUCER)
    return Job(NAMESPACE, materialised.asset, {"jobType": facet})


def _inputs(facts: Mapping[str, Any]) -> list[InputDataset]:
    from openlineage.client.event_v2 import InputDataset

    tables = [
        InputDataset(NAMESPACE, name, facets=_version(str(one["version"])))
        for name, one in (facts.get("inputs") or {}).items()
    ]
    if digest := facts.get("source_digest"):
        # `source` has the form `<location> (<variable>)`. The location contains no secrets.
        location = str(facts.get("source", "unknown")).rpartition(" (")[0] or "unknown"
        scheme, found, path = location.partition("://")
        namespace = f"{scheme}://{path.partition('/')[0]}" if found else "file"
        tables.append(
            InputDataset(namespace, path.partition("/")[2] if found else location, facets=_version(str(digest)))
        )
    return tables


def _output(materialised: Materialised) -> OutputDataset:
    from openlineage.client.event_v2 import OutputDataset
    from openlineage.client.facet_v2 import datasource_dataset, output_statistics_output_dataset

    facts = materialised.facts
    version = facts.get("model_version", facts.get("version", facts.get("digest")))
    facets: dict[str, Any] = _version(str(version)) if version is not None else {}
    if uri := facts.get("dagster/uri"):
        place = str(uri) if "://" in str(uri) else f"file://{uri}"
        facets["dataSource"] = datasource_dataset.DatasourceDatasetFacet(NAMESPACE, place, producer=PRODUCER)
    rows = facts.get("dagster/row_count")
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows, producer=PRODUCER)
    counted: dict[str, Any] = {} if rows is None else {"outputStatistics": statistics}
    return OutputDataset(NAMESPACE, materialised.asset, facets=facets, outputFacets=counted)


def _version(version: str) -> dict[str, Any]:
    from openlineage.client.facet_v2 import dataset_version_dataset

    return {"version": dataset_version_dataset.DatasetVersionDatasetFacet(version, producer=PRODUCER)}


class LineageReceiver:
    """Sender of events to a server that supports OpenLineage.

    Parameters
    ----------
    url
        Base URL of the server. Events are posted to `<url>/api/v1/lineage`.
    api_key
        API key, sent in the header `Authorization: Bearer <key>`; empty to send no header.
    """

    def __init__(self, url: str, api_key: str = "") -> None:
        self._url = url
        self._api_key = api_key

    def send(self, events: Sequence[RunEvent]) -> None:
        """Send the events in the given order.

        Raises
        ------
        LineageError
            The server cannot be reached, or refused an event. Only events before the failed one were sent.
        """
        import requests
        from openlineage.client import OpenLineageClient
        from openlineage.client.transport.http import ApiKeyTokenProvider, HttpConfig, HttpTransport, TokenProvider

        auth = ApiKeyTokenProvider({"apiKey": self._api_key}) if self._api_key else TokenProvider({})
        config = HttpConfig(self._url, timeout=_SECONDS, retry={"total": 2}, auth=auth)
        client = OpenLineageClient(transport=HttpTransport(config))
        try:
            for event in events:
                client.emit(event)
        except requests.HTTPError as error:
            raise LineageError(
                f"{shown(self._url)} returned HTTP {error.response.status_code} for a lineage event; check "
                "PLATFORM_OPENLINEAGE_URL and PLATFORM_OPENLINEAGE_API_KEY"
            ) from None
        except requests.RequestException as error:
            raise LineageError(
                f"{shown(self._url)} cannot be reached ({type(error).__name__}); the events will be sent later. "
                "Check PLATFORM_OPENLINEAGE_URL"
            ) from None
        finally:
            client.close()
