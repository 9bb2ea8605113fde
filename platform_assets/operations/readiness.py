"""Check a model's requirements for production, with the evidence or the fix for each."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from platform_assets.base.errors import PlatformError, TableError
from platform_assets.models.registry import ERASED_TAG, IMPORTED_TAG, UNDONE_TABLES, champion_or_newest
from platform_assets.monitoring.drift.history import Stream
from platform_assets.monitoring.drift.logged_rows import LOGGED
from platform_assets.monitoring.real_performance import real_performance
from platform_assets.operations.backup_record import newest_backup
from platform_assets.training.training_results import REPRODUCED_TAG

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from platform_assets.models.registry import ModelVersion
    from platform_assets.services import Services
    from platform_assets.training.model_spec import ModelSpec


@dataclass(frozen=True)
class Requirement:
    """One requirement for production.

    Attributes
    ----------
    name
        Short name.
    is_met
        Whether the requirement is met.
    found
        The evidence that it is met, or what is missing.
    fix
        How to meet the requirement; empty if it is met.
    """

    name: str
    is_met: bool
    found: str
    fix: str = ""


def readiness(services: Services, spec: ModelSpec) -> list[Requirement]:
    """Check all requirements of a model for production, without changing anything.

    Parameters
    ----------
    services
        The platform's objects.
    spec
        Declaration of the model.
    """
    model = _Model(services, spec)
    looks: dict[str, Callable[[], Iterator[Requirement]]] = {
        "card": model.card,
        "owner": model.owner,
        "version": model.version,
        "approval": model.approval,
        "identity": model.identity,
        "audit": model.audit,
        "drift": model.drift,
        "labels": model.labels,
        "alerts": model.alerts,
        "backup": model.backup,
        "environment": model.environment,
    }
    return [found for name, look in looks.items() for found in _safely(name, look)]


def _safely(name: str, look: Callable[[], Iterator[Requirement]]) -> Iterator[Requirement]:
    try:
        yield from look()
    except PlatformError as error:
        yield Requirement(name, is_met=False, found=str(error), fix="`platform-assets doctor` names the cause")


@dataclass(frozen=True)
class _Model:
    services: Services
    spec: ModelSpec

    def card(self) -> Iterator[Requirement]:
        card, kpi = self.spec.card, self.spec.card.business_kpi
        texts = {one.name: getattr(card, one.name) for one in fields(card) if one.name != "business_kpi"}
        texts["limits"] = "".join(card.limits)
        empty = [name for name, text in texts.items() if not text.strip()]
        fix = f"complete `card` in the model.py of {self.spec.domain}"
        if empty:
            yield Requirement("card", is_met=False, found=f"empty: {', '.join(empty)}", fix=fix)
        else:
            yield Requirement("card", is_met=True, found="complete")
        lacking = [one.name for one in fields(kpi) if not getattr(kpi, one.name).strip()]
        if lacking:
            yield Requirement("business KPI", is_met=False, found=f"missing: {', '.join(lacking)}", fix=fix)
        else:
            told = f"{kpi.name}; owner: {kpi.owner}; target: {kpi.target}"
            yield Requirement("business KPI", is_met=True, found=told)

    def owner(self) -> Iterator[Requirement]:
        owners = ", ".join(self.spec.owners)
        fix = "" if owners else f"set `owners` in the model.py of {self.spec.domain}"
        yield Requirement("owner", bool(owners), owners or "none", fix)

    def version(self) -> Iterator[Requirement]:
        version = champion_or_newest(self.services.registry, self.spec.name)
        if version is None:
            fix = f"train it: the job train_{self.spec.name}"
            yield Requirement("version", is_met=False, found="the model has no version", fix=fix)
            return
        yield Requirement("version", is_met=True, found=f"version {version.version} of {version.created_at:%Y-%m-%d}")
        yield self._real_data(version)
        yield self._committed_code(version)
        if imported := version.tags.get(IMPORTED_TAG):
            fix = f"check these in the other environment, or launch the job train_{self.spec.name} to train here"
            found = f"{imported}; reproduction, table versions, loads and freshness cannot be checked here"
            yield Requirement("trained here", is_met=False, found=found, fix=fix)
            return
        yield self._reproduced(version)
        yield self._tables_readable(version)
        yield self._valid_loads(version)
        yield self._freshness(version)

    def _real_data(self, version: ModelVersion) -> Requirement:
        if version.tags.get("demo") == "false":
            return Requirement("training data", is_met=True, found="from the configured sources")
        fix = "set the sources (see docs/sources.md), and train again"
        return Requirement("training data", is_met=False, found="sample data", fix=fix)

    def _committed_code(self, version: ModelVersion) -> Requirement:
        code = version.tags.get("code_version", "")
        if "+" in code and not code.endswith(".dirty"):
            return Requirement("training code", is_met=True, found=code)
        found = f"{code or 'unknown'}: not a Git commit" if "+" not in code else f"{code}: uncommitted changes"
        return Requirement("training code", is_met=False, found=found, fix="train from a committed checkout")

    def _reproduced(self, version: ModelVersion) -> Requirement:
        if erased := version.tags.get(ERASED_TAG):
            found = f"cannot be reproduced: a person in its training data was erased ({erased})"
            return Requirement("reproduced", is_met=False, found=found, fix=f"the job train_{self.spec.name}")
        at = version.tags.get(REPRODUCED_TAG)
        if at:
            return Requirement("reproduced", is_met=True, found=f"identical on {at}")
        fix = f"run `platform-assets reproduce {self.spec.name} {version.version}`"
        return Requirement("reproduced", is_met=False, found="not reproduced, or the result was different", fix=fix)

    def _tables_readable(self, version: ModelVersion) -> Requirement:
        try:
            for name, number in version.tables.items():
                self.services.tables.scan(name, version=number)
        except TableError as error:
            fix = f"train again: the job train_{self.spec.name}"
            return Requirement("table versions", is_met=False, found=str(error), fix=fix)
        told = ", ".join(f"{name} version {number}" for name, number in version.tables.items())
        return Requirement("table versions", is_met=True, found=f"readable: {told}")

    def _valid_loads(self, version: ModelVersion) -> Requirement:
        undone = json.loads(version.tags.get(UNDONE_TABLES, "{}"))
        told = ", ".join(f"{name} version {number}" for name in sorted(undone) for number in undone[name])
        if told:
            fix = f"train again: the job train_{self.spec.name}"
            return Requirement("loads", is_met=False, found=f"trained on a load that was undone later: {told}", fix=fix)
        return Requirement("loads", is_met=True, found="none of the loads in its training data was undone")

    def _freshness(self, version: ModelVersion) -> Requirement:
        first, limit = self.spec.tables[0], self.spec.retraining.min_new_rows
        known = {one.version: one.rows for one in self.services.tables.versions(first)}
        newest = known[max(known)] if known else 0
        new = newest - known.get(version.tables[first], newest)
        change = f"{abs(new):,} {'more' if new >= 0 else 'fewer'} rows"
        found = f"{first} has {change} than at training time; retraining is due at an increase of {limit:,}"
        fix = "" if new < limit else f"train again: the job train_{self.spec.name}"
        return Requirement("freshness", new < limit, found, fix)

    def approval(self) -> Iterator[Requirement]:
        champion = self.services.ledger.champion(self.spec.name)
        if champion is None:
            fix = "`platform-assets decide list` shows the open requests"
            yield Requirement("approval", is_met=False, found="no version was approved and promoted", fix=fix)
            return
        request = self.services.ledger.request(champion.request_id)
        again = f"train a version that passes, or run `platform-assets decide request {self.spec.name} ..`"
        gate = f"request {request.id}: the gate {'passed' if request.passed else 'FAILED'}"
        yield Requirement("gate", request.passed, gate, "" if request.passed else again)
        approvals = [event for event in self.services.ledger.history(request.id) if event.kind == "approve"]
        verified = all(event.authenticated for event in approvals)
        told = f"version {champion.version}: " + "; ".join(event.told for event in approvals)
        fix = "" if verified else "give the approver a key with `platform-assets keys add`, and approve again"
        yield Requirement("approval", verified, told, fix)

    def identity(self) -> Iterator[Requirement]:
        needed = self.services.settings.identity_required
        found = f"decisions {'require' if needed else 'do not require'} a key"
        yield Requirement("identity", needed, found, "" if needed else "set PLATFORM_APPROVALS_REQUIRE_IDENTITY=on")

    def audit(self) -> Iterator[Requirement]:
        promoter, name = self.services.promoter, self.spec.name
        found = [f"{one.row}: {one.told}" for one in promoter.audit()]
        found += [*promoter.drifted(name), *promoter.altered(name)]
        told = f"findings: {len(found)}, the first: {found[0]}" if found else "nothing was altered"
        yield Requirement("audit", not found, told, "see `platform-assets audit`" if found else "")

    def drift(self) -> Iterator[Requirement]:
        tables = [LOGGED.table, *([self.spec.incoming.table] if self.spec.incoming else [])]
        measured = [self.services.drift_history.newest(Stream(self.spec.name, table)) for table in tables]
        newest = max((one for one in measured if one), key=lambda one: one.measured_at, default=None)
        if newest is None:
            fix = "launch the job `monitor` after the service has made predictions"
            found = "no new rows have been compared with the training rows"
            yield Requirement("drift monitoring", is_met=False, found=found, fix=fix)
            return
        found = f"batch {newest.name} was measured at {newest.measured_at:%Y-%m-%d %H:%M} UTC"
        yield Requirement("drift monitoring", is_met=True, found=found)

    def labels(self) -> Iterator[Requirement]:
        real = real_performance(self.spec, self.services.ledger, self.services.labels)
        if real is None:
            told = "without a champion there are no predictions to compare with labels"
            yield Requirement("labels", is_met=False, found=told, fix="approve and promote a version")
            return
        fix = "" if real.assessment else f"send labels: POST /labels/{self.spec.name}, or label files"
        yield Requirement("labels", real.assessment is not None, real.told, fix)

    def alerts(self) -> Iterator[Requirement]:
        receivers = self.services.alert_routes().of(self.spec.owners)
        if receivers:
            told = ", ".join(receiver.name for receiver in receivers)
            yield Requirement("alerts", is_met=True, found=f"go to {told}")
        else:
            fix = "set PLATFORM_ALERT_WEBHOOK_URL or PLATFORM_ALERT_ROUTES"
            yield Requirement("alerts", is_met=False, found="go to the log only", fix=fix)

    def backup(self) -> Iterator[Requirement]:
        newest, longest = newest_backup(self.services.database), self.services.settings.backup_days
        is_recent = newest is not None and newest.is_recent(longest)
        found = f"{newest.place}, made at {newest.at:%Y-%m-%d %H:%M} UTC" if newest else "none exists"
        fix = "" if is_recent else f"run `platform-assets backup DIR`, at least every {longest} days"
        yield Requirement("backup", is_recent, found, fix)

    def environment(self) -> Iterator[Requirement]:
        is_production = self.services.settings.env == "production"
        fix = "" if is_production else "set PLATFORM_ENV=production, with your own database and sources"
        yield Requirement("environment", is_production, self.services.settings.env, fix)
