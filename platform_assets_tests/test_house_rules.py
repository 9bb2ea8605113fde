"""Naming and description rules for all assets, checks, jobs, schedules and sensors.

A rule is a function that yields a message for each violation. `test_the_rule_finds_violations` tests each rule on
definitions that violate it.
"""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import dagster as dg
import pytest

from platform_assets import domains
from platform_assets.base.discovery import modules_named, subpackages
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.monitoring.daily import schemas as daily_schemas

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from dagster._core.definitions.assets.graph.asset_graph import AssetGraph, AssetNode

    Rule = Callable[["House", str], Iterator[str]]

FACT = re.compile(
    r"(^|_)(is|are|was|were|has|have|had|equals?|match(es)?|lies?|within|present|unique|holds?|follows?|agrees?"
    r"|exists?|covers?|adds?_up|stays?|contains?|never|every|no)(_|$)"
)
VERB = re.compile(
    r"^(audit|backfill|build|decide|delete|erase|evaluate|harvest|issue|load|materialise|monitor|predict|promote"
    r"|publish|rebuild|refresh|reject|reproduce|restore|rollback|train|upkeep)(_|$)"
)
MODEL_SUFFIX = "_model"
SENTENCE = re.compile(r"^[A-Z`].{10,}[.:]$", re.DOTALL)


def load() -> dg.Definitions:
    from platform_assets.definitions import defs

    return defs()


def declared_tables() -> dict[str, TableSchema]:
    """Return all tables that the domains and the monitoring declare in `schemas.py`, keyed by name."""
    tables: dict[str, TableSchema] = {}
    for module in (*modules_named("schemas", domains.__name__), daily_schemas):
        for value in vars(module).values():
            values = value if isinstance(value, tuple | list) else (value,)
            tables |= {table.name: table for table in values if isinstance(table, TableSchema)}
    return tables


@dataclass(frozen=True)
class House:
    """The definitions that the rules inspect, and the declared tables, whose columns the assets must show."""

    definitions: dg.Definitions
    tables: dict[str, TableSchema]

    @property
    def graph(self) -> AssetGraph:
        return self.definitions.resolve_asset_graph()

    def assets(self) -> list[str]:
        return sorted(key.to_user_string() for key in self.graph.materializable_asset_keys)

    def node(self, asset: str) -> AssetNode:
        return self.graph.get(dg.AssetKey.from_user_string(asset))

    def docstring(self, asset: str) -> str | None:
        """Return the docstring of an asset's function; None if the asset comes from a factory."""
        op = self.graph.assets_def_for_key(self.node(asset).key).op
        function = getattr(op.compute_fn, "decorated_fn", None)
        return inspect.getdoc(function) if function else None

    def table(self, asset: str) -> TableSchema | None:
        return self.tables.get(asset.removesuffix("_quarantine"))

    def checks(self) -> list[str]:
        return sorted(f"{key.asset_key.to_user_string()}:{key.name}" for key in self.graph.asset_check_keys)

    def check(self, check: str) -> dg.AssetCheckSpec:
        asset, name = check.split(":")
        return self.graph.get_check_spec(dg.AssetCheckKey(dg.AssetKey.from_user_string(asset), name))

    def jobs(self) -> list[str]:
        names = (job.name for job in self.definitions.resolve_all_job_defs())
        return sorted(name for name in names if not name.startswith("__"))

    def automations(self) -> list[dg.SensorDefinition | dg.ScheduleDefinition]:
        repository = self.definitions.get_repository_def()
        return [*repository.sensor_defs, *repository.schedule_defs]


def description_is_a_docstring(house: House, asset: str) -> Iterator[str]:
    description = (house.node(asset).description or "").strip()
    first, *_ = description.split("\n\n")
    if not SENTENCE.match(first):
        yield f"its description is not a sentence: {first!r}"
    docstring = house.docstring(asset)
    if docstring and not description.startswith(docstring.split("\n\n")[0]):
        yield f"its description does not start with its docstring: {first!r}"


def has_an_owner(house: House, asset: str) -> Iterator[str]:
    if not house.node(asset).owners:
        yield "it has no owner"


def has_kinds(house: House, asset: str) -> Iterator[str]:
    if not house.node(asset).kinds:
        yield "it has no kind"


def group_is_the_first_part_of_the_key(house: House, asset: str) -> Iterator[str]:
    node = house.node(asset)
    if len(node.key.path) != 2 or node.group_name != node.key.path[0]:
        yield f"its group is {node.group_name!r}; the key must be <group>/<name>"


def is_a_declared_table_or_a_model(house: House, asset: str) -> Iterator[str]:
    if house.table(asset) is None and not asset.endswith(MODEL_SUFFIX):
        yield "it is not declared in any domain's schemas.py"


def shows_its_columns(house: House, asset: str) -> Iterator[str]:
    table = house.table(asset)
    if table is None:
        return
    shown = {column.name: column for column in _shown_columns(house, asset)}
    for column in table.columns:
        if column.name not in shown:
            yield f"column {column.name} is not in its column schema"
        elif column.unit and column.unit not in str(shown[column.name]):
            yield f"column {column.name} does not show its unit, {column.unit}"
    yield from (f"column {column.name} has no description" for column in shown.values() if not column.description)


def _shown_columns(house: House, asset: str) -> list[dg.TableColumn]:
    schema: Any = house.node(asset).metadata.get("dagster/column_schema")
    schema = getattr(schema, "schema", schema)
    return list(schema.columns) if schema else []


def does_not_pickle(house: House, asset: str) -> Iterator[str]:
    node = house.node(asset)
    # `fs_io_manager` is Dagster's default IO manager.
    manager = (house.definitions.resources or {}).get(node.io_manager_key, dg.fs_io_manager)
    if manager is dg.fs_io_manager or isinstance(manager, dg.FilesystemIOManager):
        yield f"its IO manager {node.io_manager_key!r} is one of Dagster's IO managers, which pickle values"


def check_is_named_as_a_fact(house: House, check: str) -> Iterator[str]:
    if not FACT.search(house.check(check).name):
        yield "its name does not state a fact, such as loan_amount_is_positive"


def check_has_a_description(house: House, check: str) -> Iterator[str]:
    if not (house.check(check).description or "").strip():
        yield "it has no description"


def job_is_named_by_a_verb(_house: House, job: str) -> Iterator[str]:
    if not VERB.search(job):
        yield f"its name does not start with one of the verbs {VERB.pattern}"


ASSET_RULES: Sequence[Rule] = [
    description_is_a_docstring,
    has_an_owner,
    has_kinds,
    group_is_the_first_part_of_the_key,
    is_a_declared_table_or_a_model,
    shows_its_columns,
    does_not_pickle,
]
CHECK_RULES: Sequence[Rule] = [check_is_named_as_a_fact, check_has_a_description]
HOUSE = House(load(), declared_tables())


def cases(rules: Sequence[Rule], names: list[str]) -> list[Any]:
    return [pytest.param(rule, name, id=f"{rule.__name__}-{name}") for rule in rules for name in names]


@pytest.mark.requirement("PLT-1")
@pytest.mark.parametrize(("rule", "asset"), cases(ASSET_RULES, HOUSE.assets()))
def test_an_asset_follows_the_rule(rule: Rule, asset: str) -> None:
    assert list(rule(HOUSE, asset)) == []


@pytest.mark.requirement("PLT-5")
@pytest.mark.parametrize(("rule", "check"), cases(CHECK_RULES, HOUSE.checks()))
def test_a_check_follows_the_rule(rule: Rule, check: str) -> None:
    assert list(rule(HOUSE, check)) == []


@pytest.mark.parametrize(("rule", "job"), cases([job_is_named_by_a_verb], HOUSE.jobs()))
def test_a_job_follows_the_rule(rule: Rule, job: str) -> None:
    assert list(rule(HOUSE, job)) == []


def test_the_rules_have_definitions_to_inspect() -> None:
    assert HOUSE.assets()
    assert HOUSE.checks()
    assert HOUSE.jobs()
    assert HOUSE.automations()
    assert set(HOUSE.tables) <= set(HOUSE.assets())


@pytest.mark.parametrize("domain", subpackages(domains.__name__))
def test_a_domain_has_a_readme(domain: str) -> None:
    readme = Path(domains.__path__[0], domain, "README.md")
    assert readme.is_file(), "write a README.md with the domain's design decisions and their reasons"
    assert readme.read_text().startswith("# ")


@pytest.mark.requirement("PLT-2")
@pytest.mark.parametrize(("automation", "expected"), [("", "STOPPED"), ("off", "STOPPED"), ("on", "RUNNING")])
def test_the_automation_setting_starts_or_stops_schedules_and_sensors(
    automation: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLATFORM_AUTOMATION", automation)
    statuses = {it.name: it.default_status.name for it in House(load(), {}).automations()}
    assert statuses == dict.fromkeys((it.name for it in HOUSE.automations()), expected)


@dg.asset(key=["somewhere", "loans"], group_name="elsewhere")
def bad() -> None:
    """loans"""  # noqa: D400, D403  # violates the rule on purpose


@dg.asset(key=["somewhere", "columns"], description="Differs from the docstring.")
def described_twice() -> None:
    """Says this."""


@dg.asset_check(asset=bad, name="loan_amount")
def bad_check() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=True)


COLUMNS = (Column("a", "int64", "A."), Column("b", "float64", "B.", "EUR"))
UNSHOWN = TableSchema("somewhere/columns", COLUMNS, ("a",))
BAD_HOUSE = House(
    dg.Definitions(
        assets=[
            bad,
            described_twice.map_asset_specs(
                lambda spec: spec.merge_attributes(
                    metadata={"dagster/column_schema": dg.TableSchema([dg.TableColumn("b", "float64")])}
                )
            ),
        ],
        asset_checks=[bad_check],
    ),
    {UNSHOWN.name: UNSHOWN},
)


@pytest.mark.parametrize(
    ("rule", "name", "expected"),
    [
        (description_is_a_docstring, "somewhere/loans", ["its description is not a sentence: 'loans'"]),
        (
            description_is_a_docstring,
            "somewhere/columns",
            ["its description does not start with its docstring: 'Differs from the docstring.'"],
        ),
        (has_an_owner, "somewhere/loans", ["it has no owner"]),
        (has_kinds, "somewhere/loans", ["it has no kind"]),
        (
            group_is_the_first_part_of_the_key,
            "somewhere/loans",
            ["its group is 'elsewhere'; the key must be <group>/<name>"],
        ),
        (is_a_declared_table_or_a_model, "somewhere/loans", ["it is not declared in any domain's schemas.py"]),
        (
            shows_its_columns,
            "somewhere/columns",
            [
                "column a is not in its column schema",
                "column b does not show its unit, EUR",
                "column b has no description",
            ],
        ),
        (
            does_not_pickle,
            "somewhere/loans",
            ["its IO manager 'io_manager' is one of Dagster's IO managers, which pickle values"],
        ),
        (
            check_is_named_as_a_fact,
            "somewhere/loans:loan_amount",
            ["its name does not state a fact, such as loan_amount_is_positive"],
        ),
        (check_has_a_description, "somewhere/loans:loan_amount", ["it has no description"]),
    ],
)
def test_the_rule_finds_violations(rule: Rule, name: str, expected: list[str]) -> None:
    assert list(rule(BAD_HOUSE, name)) == expected


@pytest.mark.parametrize(("job", "faults"), [("train_credit_risk_model", 0), ("credit_risk_training", 1)])
def test_the_rule_requires_a_verb_at_the_start_of_a_job_name(job: str, faults: int) -> None:
    assert len(list(job_is_named_by_a_verb(BAD_HOUSE, job))) == faults
