"""The metrics of all workers of one service. A scrape reaches only one worker, which collects the others' metrics.

Each series has the label `worker`. The counters of a replaced worker start at zero again, which Prometheus handles like
the restart of a process.
"""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.samples import Sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from platform_assets.web.workers import Worker

LOG = logging.getLogger(__name__)
LABEL = "worker"
ANSWER_SECONDS = 5.0
"""Time for the other workers to answer. Prometheus waits for 10 s by default."""


class WorkersMetrics:
    """Metrics of all workers of the service.

    Parameters
    ----------
    registry
        Registry of this worker's metrics.
    worker
        This process as a worker of the service.
    """

    def __init__(self, registry: CollectorRegistry, worker: Worker) -> None:
        self._registry = registry
        self._worker = worker
        worker.calls.answer(worker.number, self._own)

    def text(self) -> bytes:
        """Return the metrics of all workers in Prometheus's text format."""
        answers = {**self._worker.calls.ask(self._worker.others, ANSWER_SECONDS), self._worker.number: self._own()}
        late = [number for number in self._worker.others if number not in answers]
        if late:
            LOG.warning("these workers did not answer with their metrics: %s", ", ".join(map(str, late)))
        merged = CollectorRegistry()
        merged.register(_Merged(answers, self._worker.count))
        return generate_latest(merged)

    def _own(self) -> bytes:
        families = [
            (one.name, one.documentation, one.type, [sample[:3] for sample in one.samples])
            for one in self._registry.collect()
        ]
        return json.dumps(families).encode()


class _Merged(Collector):
    """The metrics of several workers as one collection."""

    def __init__(self, answers: Mapping[int, bytes], count: int) -> None:
        self._answers = answers
        self._count = count

    def collect(self) -> Iterator[Metric]:
        """Yield each metric once, with the series of all workers."""
        up = GaugeMetricFamily("platform_worker_up", "Whether the worker answers.", labels=[LABEL])
        for number in range(1, self._count + 1):
            up.add_metric([str(number)], float(number in self._answers))
        merged: dict[str, Metric] = {}
        for number, answer in sorted(self._answers.items()):
            for name, documentation, kind, samples in json.loads(answer):
                metric = merged.setdefault(name, Metric(name, documentation, kind))
                metric.samples += [Sample(one, {**labels, LABEL: str(number)}, value) for one, labels, value in samples]
        yield up
        yield from merged.values()
