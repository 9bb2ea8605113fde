"""Metrics for Prometheus.

Each application has its own registry, so that two applications in one process are counted separately.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from prometheus_client import CollectorRegistry, Counter, GCCollector, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from platform_assets.base.errors import PlatformError, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from platform_assets.lake.online_tables import OnlineTables
    from platform_assets.serving.live_models import ModelState
    from platform_assets.serving.prediction_log import PredictionLog
    from platform_assets.serving.predictor import Predicted, Predictor
    from platform_assets.serving.shadow_scoring import Shadows
    from platform_assets.web.rate_limits import RateLimits

LOG = logging.getLogger(__name__)

CONTENT_TYPE = CONTENT_TYPE_LATEST
OTHER = "other"
"""Label for unknown routes, unknown methods and static files."""
_SHADOW = ("model", "version")
_METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"}
_SCORES = tuple(round(step / 20, 2) for step in range(1, 21))
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one application.

    Parameters
    ----------
    predictor
        Predictor whose predictions are counted.
    models
        Function that returns the state of each model, by name.
    log
        The prediction log.
    online
        The online tables; None if there is no database.

    Attributes
    ----------
    registry
        Registry of the metrics; further collectors can be added.
    """

    def __init__(
        self,
        predictor: Predictor,
        models: Callable[[], Mapping[str, ModelState]],
        log: PredictionLog,
        online: OnlineTables | None,
    ) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "platform_http_requests",
            "Answered requests.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "platform_http_request_seconds",
            "Seconds from the arrival of a request's headers to the end of its response.",
            ["method", "route"],
            buckets=_SECONDS,
            registry=self.registry,
        )
        # Cache the labelled counters, because finding one takes longer than counting. Few combinations of labels exist.
        self._of_requests, self._of_seconds = cache(self._requests.labels), cache(self._seconds.labels)
        self._predictions = Counter(
            "platform_predictions",
            "Scored rows, by outcome.",
            ["model", "version", "outcome"],
            registry=self.registry,
        )
        self._scores = Histogram(
            "platform_prediction_score",
            "Scores of the rows.",
            ["model"],
            buckets=_SCORES,
            registry=self.registry,
        )
        self._of_predictions, self._of_scores = cache(self._predictions.labels), cache(self._scores.labels)
        predictor.tell(self._count_predictions)
        self.registry.register(_Platform(models, log, online))
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self.registry)

    def count_request(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count a response by the template of its route, because there is no limit to the number of paths."""
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        route = getattr(scope.get("route"), "path", OTHER)
        self._of_requests(method, route, status).inc()
        self._of_seconds(method, route).observe(seconds)

    def _count_predictions(self, predicted: Predicted) -> None:
        live = predicted.live
        for outcome, rows in predicted.outcomes.items():
            if rows:
                self._of_predictions(live.name, live.version, outcome).inc(rows)
        if live.model.output.score_range is None:
            # Count only probabilities, because the buckets of the histogram do not suit other values.
            return
        histogram = self._of_scores(live.name)
        for score in predicted.scores.tolist():
            histogram.observe(score)

    def text(self) -> bytes:
        """Return all metrics in Prometheus's text format."""
        return generate_latest(self.registry)


class LimitsCollector(Collector):
    """Metric that shows whether the rate limits are shared through Redis.

    Parameters
    ----------
    limits
        The rate limits of a service with `PLATFORM_LIMITS_URL`.
    """

    def __init__(self, limits: RateLimits) -> None:
        self._limits = limits

    def collect(self) -> Iterator[Metric]:
        """Yield the metric."""
        told = "Whether requests of all processes are counted together, in Redis."
        yield GaugeMetricFamily("platform_rate_limits_shared", told, self._limits.scope == "shared")


class _Platform(Collector):
    """Metrics that are read at scrape time, not counted per request."""

    def __init__(
        self, models: Callable[[], Mapping[str, ModelState]], log: PredictionLog, online: OnlineTables | None
    ) -> None:
        self._models = models
        self._log = log
        self._online = online

    def describe(self) -> list[Metric]:
        """Return no metrics. By default, the registry would collect on registration, and so query the database."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics of the models, the prediction log and the online tables."""
        yield from _of_models(self._models())
        log = self._log
        yield CounterMetricFamily("platform_prediction_log_rows", "Predictions that were logged.", log.written)
        yield CounterMetricFamily("platform_prediction_log_dropped", "Predictions that were dropped.", log.dropped)
        yield CounterMetricFamily("platform_prediction_log_failures", "Failed writes of the log.", log.failures)
        yield GaugeMetricFamily("platform_prediction_log_queue", "Predictions in the queue of the log.", log.queued)
        if self._online is not None:
            yield from self._of_features(self._online)

    def _of_features(self, online: OnlineTables) -> Iterator[Metric]:
        answers = GaugeMetricFamily("platform_database_up", "Whether the database responds.")
        age = GaugeMetricFamily(
            "platform_features_age_seconds", "Seconds since the rows of an online table last changed.", labels=["table"]
        )
        try:
            found = online.versions()
        except PlatformError as error:
            LOG.warning("cannot read the age of the features: %s", first_line(error))
            found = None
        answers.add_metric([], float(found is not None))
        for one in found or ():
            age.add_metric([one.name], (datetime.now(UTC) - one.updated_at).total_seconds())
        yield answers
        yield age


class ShadowMetrics(Collector):
    """Metrics of the shadows that run in this process.

    Parameters
    ----------
    shadows
        The shadows that run in this process.
    """

    def __init__(self, shadows: Shadows) -> None:
        self._shadows = shadows

    def describe(self) -> list[Metric]:
        """Return no metrics, because the models are not known yet."""
        return []

    def collect(self) -> Iterator[Metric]:
        """Yield the state and the row counts of each shadow."""
        up = GaugeMetricFamily(
            "platform_shadow_up", "Whether a running shadow is loaded and could score its last row.", labels=_SHADOW
        )
        for model, state in self._shadows.state().items():
            works = state.model is not None and state.failure is None
            up.add_metric([model, str(state.shadow.version)], float(works))
        scored = CounterMetricFamily("platform_shadow_rows", "Rows that the shadow scored.", labels=["model"])
        dropped = CounterMetricFamily("platform_shadow_dropped", "Rows that the shadow dropped.", labels=["model"])
        failed = CounterMetricFamily(
            "platform_shadow_failures", "Rows that the shadow failed to score.", labels=["model"]
        )
        for model, counts in self._shadows.counts().items():
            for metric, value in ((scored, counts.scored), (dropped, counts.dropped), (failed, counts.failed)):
                metric.add_metric([model], value)
        yield from (up, scored, dropped, failed)
        yield GaugeMetricFamily("platform_shadow_queue", "Rows in the queue of the shadows.", self._shadows.queued)


def _of_models(states: Mapping[str, ModelState]) -> Iterator[Metric]:
    serving = InfoMetricFamily("platform_model", "The live version of a model.", labels=["model"])
    up = GaugeMetricFamily("platform_model_live", "Whether a version of the model is live.", labels=["model"])
    failures = CounterMetricFamily(
        "platform_model_reload_failures", "Failed attempts to load a champion.", labels=["model"]
    )
    failing = GaugeMetricFamily("platform_model_failing", "Whether the champion cannot be loaded.", labels=["model"])
    for name, state in states.items():
        if state.live:
            told = {"version": str(state.live.version), "digest": state.live.digest, "demo": str(state.live.demo)}
            serving.add_metric([name], told)
        up.add_metric([name], float(state.live is not None))
        failures.add_metric([name], state.reload_failures)
        failing.add_metric([name], float(state.failure is not None))
    yield from (serving, up, failures, failing)
