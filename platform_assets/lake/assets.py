"""A table's declaration to its asset: validated, checked, and only then published.

`table_asset` wraps a function that takes and returns tables. The checks run before the IO manager
publishes what it returned; a blocking one that fails raises, so that every reader, in this run or a later
one, keeps the last good version.
"""

import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg
from dagster._core.definitions.resource_annotation import get_resource_args

from platform_assets.base.frames import Expression
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.expectations import Judgement
from platform_assets.lake.online_tables import OnlineTables
from platform_assets.lake.schemas import TableSchema
from platform_assets.lake.validation import HISTORY, Check, Validated, Validator, checks_of, conform
from platform_assets.orchestration.failures import plain_failures

STORE = "platform/store"
KEY = "platform/key"
QUARANTINE = "platform/quarantine"
PARTITION_BY = "partition_expr"
"""Dagster's own name for the column of the partition keys."""
IO_MANAGER = "tables_io"
CONTEXT = "context"


def table_asset(
    schema: TableSchema,
    *,
    owners: Sequence[str],
    kinds: set[str] | None = None,
    ins: Mapping[str, dg.AssetIn] | None = None,
    deps: Sequence[dg.AssetsDefinition | dg.AssetKey] = (),
    partitions_def: dg.PartitionsDefinition[str] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Make a function the asset of a table.

    The function's parameters are upstream assets (annotated `Frame` or `Expression`) and resources
    (annotated `dg.ResourceParam[..]`); it returns a `Frame`, an `Expression` or, for a table from
    outside, what `land` gave it. Its docstring is the asset's description.

    Parameters
    ----------
    schema
        The table: its name is the asset's key, its domain the group, its expectations the checks.
    owners
        Who answers for it.
    kinds
        Besides the kind of the store.
    ins
        Upstream assets of another domain, or of another name than the parameter.
    deps
        Upstream assets that the function reads by itself.
    partitions_def
        The partitions, whose keys are the values of `schema.partition_by`.

    Raises
    ------
    ValueError
        Only one of schema and asset is partitioned: a run for one partition would replace all of them.
    """
    if (partitions_def is None) != (schema.partition_by is None):
        raise ValueError(f"{schema.name}: partitions_def and the schema's partition_by go together")

    def decorate(work: Callable[..., Any]) -> dg.AssetsDefinition:
        resources = {parameter.name for parameter in get_resource_args(work)}
        *prefix, name = schema.name.split("/")
        asset: dg.AssetsDefinition = dg.asset(
            name=name,
            key_prefix=prefix,
            group_name=schema.domain,
            description=inspect.getdoc(work),
            owners=list(owners),
            kinds={_kind(schema), *(kinds or ())},
            metadata=_table_metadata(schema),
            check_specs=[_check_spec(schema, check) for check in checks_of(schema)],
            io_manager_key=IO_MANAGER,
            required_resource_keys={"validator", "tables", *resources},
            ins=ins,
            deps=list(deps),
            partitions_def=partitions_def,
        )(_step(schema, work, resources))
        return asset

    return decorate


def online_check(
    schema: TableSchema, source: TableSchema, compute: Callable[[Expression], Expression]
) -> dg.AssetChecksDefinition:
    """The check that an online table holds what its source in the lake says now.

    Parameters
    ----------
    schema
        The online table.
    source
        The table of the lake that it is made from.
    compute
        The one from the other: what the asset itself computes.
    """

    @dg.asset_check(
        asset=schema.name.split("/"),
        name="online_rows_equal_lake",
        description=f"The rows in PostgreSQL are those that {source.name} in the lake gives now, value for value.",
    )
    def check(
        tables: dg.ResourceParam[TableStore], online: dg.ResourceParam[OnlineTables], engine: dg.ResourceParam[Engine]
    ) -> dg.AssetCheckResult:
        expected = conform(compute(tables.scan(source.name)), schema)
        actual = conform(engine.as_expression(online.read(schema.name)), schema)
        with engine.stage(expected) as lake, engine.stage(actual) as served:
            return dg.AssetCheckResult(
                passed=lake.digest == served.digest,
                metadata={"rows_expected": lake.rows, "rows_online": served.rows, "digest": lake.digest},
                description=None if lake.digest == served.digest else f"materialise {schema.name} to mend it",
            )

    return check


def tables_in_lake(definitions: dg.Definitions) -> list[str]:
    """Names of the tables of the lake that some definitions make, quarantines included."""
    names = []
    for assets in definitions.assets or ():
        for spec in assets.specs if isinstance(assets, dg.AssetsDefinition) else ():
            name = "/".join(spec.key.path)
            names += [name] if spec.metadata.get(STORE) == "lake" else []
            names += [spec.metadata[QUARANTINE]] if QUARANTINE in spec.metadata else []
    return names


def column_schema(schema: TableSchema) -> dg.TableSchema:
    """The columns as Dagster shows them."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                f"{column.description} Unit: {column.unit}." if column.unit else column.description,
                constraints=dg.TableColumnConstraints(unique=schema.key == (column.name,)),
            )
            for column in schema.columns
        ]
    )


def _table_metadata(schema: TableSchema) -> dict[str, Any]:
    return {
        "dagster/column_schema": column_schema(schema),
        "dagster/table_name": schema.name.replace("/", "."),
        STORE: schema.store,
        KEY: list(schema.key),
        **({QUARANTINE: schema.quarantine} if schema.source else {}),
        **({PARTITION_BY: schema.partition_by} if schema.partition_by else {}),
    }


def _kind(schema: TableSchema) -> str:
    return "deltalake" if schema.store == "lake" else "postgres"


def _check_spec(schema: TableSchema, check: Check) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        check.name, asset=schema.name.split("/"), description=check.description, blocking=check.blocking
    )


def _step(schema: TableSchema, work: Callable[..., Any], resources: set[str]) -> Callable[..., Iterator[Any]]:
    """What Dagster runs: the function between its inputs and the checks of what it returns."""

    def compute(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[Any]:
        given = inputs | {name: getattr(context.resources, name) for name in resources}
        if CONTEXT in inspect.signature(work).parameters:
            given[CONTEXT] = context
        yield from _validated(context, schema, lambda: work(**given))

    compute.__name__ = work.__name__
    compute.__signature__ = _of_step(work, resources)  # type: ignore[attr-defined]  # mypy does not know a function's own
    return compute


def _of_step(work: Callable[..., Any], resources: set[str]) -> inspect.Signature:
    """What Dagster is to pass: the context and the upstream assets.

    Resources come by the context, so that an upstream asset may be called like one of ours.
    """
    context = inspect.Parameter(CONTEXT, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dg.AssetExecutionContext)
    own = inspect.signature(work).parameters.values()
    return inspect.Signature([context, *(one for one in own if one.name not in {CONTEXT, *resources})])


def _validated(context: dg.AssetExecutionContext, schema: TableSchema, work: Callable[[], Any]) -> Iterator[Any]:
    validator: Validator = context.resources.validator
    with plain_failures():
        tables: TableStore = context.resources.tables
        inputs = _inputs(context, tables)
        is_published = schema.source and tables.exists(schema.name)
        history = tables.versions(schema.name, HISTORY) if is_published else []
        validated = validator.validate(schema, work(), history)
    try:
        yield from _check_results(context, schema, validated)
        demo = validated.demo or any(entry["demo"] for entry in inputs.values())
        yield dg.MaterializeResult(
            value=validated,
            data_version=dg.DataVersion(validated.table.digest),
            metadata={**_as_metadata(validated.metadata), "demo": demo, "inputs": dg.MetadataValue.json(inputs)},
        )
    finally:
        validated.discard()


def _check_results(
    context: dg.AssetExecutionContext, schema: TableSchema, validated: Validated
) -> Iterator[dg.AssetCheckResult]:
    """All results, and then the failure if one of them blocks."""
    checks = {check.name: check for check in checks_of(schema)}
    failed = [judgement for judgement in validated.judgements if not judgement.passed]
    for judgement in validated.judgements:
        yield _check_result(schema, judgement, checks[judgement.name])
    if failed:
        context.log.warning("%s: these checks do not hold: %s", schema.name, ", ".join(one.name for one in failed))
    blocking = [judgement for judgement in failed if checks[judgement.name].blocking]
    if blocking:
        reasons = "; ".join(_told(judgement, checks[judgement.name]) for judgement in blocking)
        raise dg.Failure(
            f"{schema.name} is not published, its last good version stays current: {reasons}", allow_retries=False
        )


def _check_result(schema: TableSchema, judgement: Judgement, check: Check) -> dg.AssetCheckResult:
    metadata: dict[str, Any] = {"rows": judgement.rows, "broken_rows": judgement.broken}
    if judgement.observed is not None:
        metadata["observed"] = judgement.observed
    if judgement.samples:
        metadata["samples"] = dg.MetadataValue.json(json.loads(json.dumps(judgement.samples, default=str)))
    return dg.AssetCheckResult(
        passed=judgement.passed,
        asset_key=schema.name.split("/"),
        check_name=check.name,
        severity=dg.AssetCheckSeverity.ERROR if check.blocking else dg.AssetCheckSeverity.WARN,
        description=None if judgement.passed else _told(judgement, check),
        metadata=metadata,
    )


def _told(judgement: Judgement, check: Check) -> str:
    seen = judgement.observed or f"{judgement.broken} of {judgement.rows} rows break it"
    first = f", e.g. {json.dumps(judgement.samples[0], default=str)}" if judgement.samples else ""
    return f"{check.name} does not hold: {seen}{first}"


def _inputs(context: dg.AssetExecutionContext, tables: TableStore) -> dict[str, dict[str, Any]]:
    """Name, version and digest of the lake's tables that went in."""
    upstream = ("/".join(key.path) for key in context.assets_def.asset_deps[context.asset_key])
    versions = (tables.current(name) for name in sorted(upstream))
    return {
        version.name: {
            "version": version.version,
            "digest": version.digest,
            "demo": bool(version.metadata.get("demo")),
        }
        for version in versions
        if version
    }


def _as_metadata(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: dg.MetadataValue.json(value) if isinstance(value, dict | list) else value for name, value in facts.items()
    }
