"""A platform with monitoring and alerts, on which tests simulate traffic, faults and the passing of days."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg
import numpy as np
import requests

from platform_assets import definitions
from platform_assets.approval.requests import request_approval
from platform_assets.domains.credit_risk.schemas import LOANS
from platform_assets.domains.sensor_maintenance.model import MODEL
from platform_assets.monitoring.daily.schemas import MODEL_DAYS, TABLE_DAYS
from platform_assets.monitoring.incidents import problems
from platform_assets.monitoring.incidents.watch import Watch
from platform_assets.serving.prediction_log import Predictions, TableSink
from platform_assets.serving.request_statistics import Counts
from platform_assets.training.examples import read_pinned_examples
from platform_assets.training.proposal import proposal_of
from platform_assets_tests.approval.promotions import Works
from platform_assets_tests.approval.proposals import SOMEBODY, owner_at
from platform_assets_tests.monitoring.incidents.conftest import Desk
from platform_assets_tests.monitoring.incidents.dagster_history import DagsterHistory

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import pandas as pd

    from platform_assets.monitoring.incidents.problems import Findings

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TODAY = datetime.now(UTC).date()
DRIFT_TABLES = ("drift_batches", "drift", "estimated_performance")


class WatchedPlatform:
    """A platform with the settings of the environment, and with its lake in memory.

    Parameters
    ----------
    instance
        Dagster's instance.
    url
        URL of the platform's database. The class changes times in this database to simulate the passing of days.
    loans
        CSV file with the loans.

    Attributes
    ----------
    disk_is_full, daemon_is_dead
        Whether to simulate a nearly full disk, and a dead Dagster daemon.
    asked
        Requests whose predictions get labels.
    """

    def __init__(self, instance: dg.DagsterInstance, url: str, loans: Path) -> None:
        self.services = definitions.services()
        self.definitions = definitions.defs()
        self.instance, self.url, self.loans = instance, url, loans
        services = self.services
        self.desk = Desk(services.database, services.incidents, services.delivery)
        resources = {"incidents": services.incidents, "delivery": services.delivery, "ledger": services.ledger}
        self.history = DagsterHistory(instance, self.definitions.get_repository_def(), services.database, resources)
        self.works = Works(services.ledger, services.registry, loans.parent, services.database.lock, services.artefacts)
        self.folder = loans.parent
        self.disk_is_full = False
        self.daemon_is_dead = False
        self.asked: list[str] = []
        self._random = np.random.default_rng(5)
        self._outside = Watch(
            [
                self._champions,
                lambda: problems.disk(self.folder, lambda _: (1 << 41, 1 << (30 if self.disk_is_full else 40))),
                lambda: problems.daemon(services.database, datetime.now(UTC) - self.daemon_is_dead * HOUR),
                lambda: problems.lookout(services.incidents, datetime.now(UTC) - HOUR),
            ],
            services.incidents,
            services.delivery,
        )

    def run(self, job: str) -> bool:
        return self._executed(self.definitions.resolve_job_def(job))

    def materialise(self, *names: str) -> bool:
        keys = [dg.AssetKey(name.split("/")) for name in names]
        return self._executed(self.definitions.resolve_implicit_global_asset_job_def(), asset_selection=keys)

    def _executed(self, job: dg.JobDefinition, **options: Any) -> bool:
        return job.execute_in_process(instance=self.instance, raise_on_error=False, **options).success

    def load(self, lines: Sequence[str]) -> None:
        """Load these loans."""
        self.loans.write_text("".join(lines))
        assert self.materialise(LOANS.name)

    def hide(self, digest: str) -> None:
        """Move the file of a model away."""
        [self._hidden] = self.loans.parent.rglob(f"{digest}.skops")
        self._hidden.rename(self.loans.parent / "hidden")

    def unhide(self) -> None:
        """Move the hidden file back."""
        (self.loans.parent / "hidden").rename(self._hidden)

    def look(self) -> None:
        """Three times, check Dagster's history, run the checks of `serve` and `up`, and send the due alerts."""
        for _ in range(3):
            self.history.look()
            self._outside.look()
            # Simulate a minute, so that messages that the receiver refused are sent again.
            self.desk.pass_time(timedelta(minutes=1))

    def _champions(self) -> Findings:
        states = self.services.live_models.state()
        # Make failures an hour older, because a failure is reported only after a minute.
        old = {
            name: replace(state, failing_since=state.failing_since and state.failing_since - HOUR)
            for name, state in states.items()
        }
        return problems.champions(old, {})

    def promote(self) -> None:
        """Train the model with one candidate, approve the version, and make it the champion."""
        services, spec = self.services, replace(MODEL, candidates=MODEL.candidates[1:2], explanations=(), resamples=20)
        services.ledger.settle_policy(MODEL.name, MODEL.approval)
        training = services.trainer.train(spec, "user", lambda _: None)
        request = request_approval(services.ledger, proposal_of(spec, training))
        assert request is not None
        services.ledger.decide(request.id, "approve", SOMEBODY, "better than nothing")
        services.promoter.promote(request.id)
        version = training.version
        self._champion = version.version, request.id, version.threshold
        self._model = services.artefacts.load(version.digest)
        self._rows = read_pinned_examples(services.tables, MODEL, version).training

    def answer(self, days_ago: int, rows: int, change: Callable[[Any], Any] | None = None, failures: int = 0) -> str:
        """Log predictions and statistics of a request as if it were made on an earlier day; return the request's id."""
        at = datetime(TODAY.year, TODAY.month, TODAY.day, 12, tzinfo=UTC) - days_ago * DAY
        frame = self._rows.sample(rows, random_state=self._random)[list(MODEL.feature_names)].reset_index(drop=True)
        frame = change(frame) if change else frame
        request, plain = uuid.uuid4().hex, frame.astype(object).where(frame.notna(), None)
        asked = Predictions(
            MODEL.name,
            *self._champion,
            "shop",
            request,
            [None] * rows,
            [dict(zip(plain.columns, row, strict=True)) for row in plain.itertuples(index=False)],
            self._model.scores(frame).tolist(),
            at,
        )
        with closing(TableSink(lambda: self.services.database.connect("platform"))) as sink:
            sink.write(uuid.uuid4(), [asked])
        counts = Counts()
        for number in range(rows):
            counts.add(500 if number < failures else 200, 0.01)
        with self.services.database.pooled() as connection:
            connection.execute(
                b"insert into platform.request_statistics (model, at, requests, failures, durations) "
                b"values (%s, %s, %s, %s, %s)",
                [MODEL.name, at, counts.requests, counts.failures, counts.durations],
            )
            connection.commit()
        return request

    def decisions(self, request: str) -> list[bool]:
        """Return the decisions of a request, in the order of its rows."""
        query = b"select positive from platform.predictions where request_id = %s order by place"
        with self.services.database.pooled() as connection:
            return [positive for (positive,) in connection.execute(query, [request]).fetchall()]

    def pass_days(self, number: int) -> None:
        """Move predictions, requests and measurements `number` days into the past."""
        moves = [
            ("predictions", "at = at - {}"),
            ("request_statistics", "at = at - {}"),
            *((table, "batch = to_char(batch::date - {}, 'YYYY-MM-DD')") for table in DRIFT_TABLES),
            ("drift_batches", "name = batch, arrived_at = arrived_at - {0}, measured_at = measured_at - {0}"),
        ]
        with owner_at(self.url) as owner:
            for table, move in moves:
                # Move the days in two steps: in one step, a moved row could get the key of a row that is still to be
                # moved.
                for days in (1_000 + number, -1_000):
                    moved = move.format(f"interval '{days} days'")
                    owner.execute(f"update platform.{table} set {moved}".encode())
        self.rewrite(MODEL_DAYS.name, lambda days: days.assign(day=days["day"] - number * DAY))
        self.rewrite(TABLE_DAYS.name, lambda days: days.assign(day=days["day"] - number * DAY))

    def usual_past(self, table: str, days: int = 40) -> None:
        """Repeat the newest measurements of a table on earlier days, with small random deviations."""
        import pandas as pd

        def repeated(history: pd.DataFrame) -> pd.DataFrame:
            last = history[(history["subject"] == table) & (history["day"] == history["day"].max())]
            parts = [history[history["subject"] != table], last]
            for ago in range(1, days):
                noise = self._random.normal(size=len(last)) * last["noise"]
                parts.append(last.assign(day=last["day"] - ago * DAY, judged=last["judged"] + noise))
            found: pd.DataFrame = pd.concat(parts, ignore_index=True)
            return found

        self.rewrite(TABLE_DAYS.name, repeated)

    def rewrite(self, table: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
        """Replace the rows of a table of the lake."""
        tables = self.services.tables
        with self.services.engine.stage(change(tables.read(table))) as staged:
            tables.publish(table, staged, metadata={})

    def daily(self) -> dict[str, str]:
        """Run the job `monitor`, and return the titles of the open incidents, keyed by cause."""
        assert self.run("monitor")
        self.look()
        return self.opened()

    def opened(self) -> dict[str, str]:
        return {one.cause: one.title for one in self.desk.incidents.list()}


def page(address: str, key: str, path: str = "/monitoring") -> str:
    """Return a page of the service, over HTTP."""
    response = requests.get(f"{address}{path}", headers={"Authorization": f"Bearer {key}"}, timeout=400)
    assert response.status_code == 200, response.text
    return response.text
