"""Table assets: turn a table's declaration and a function into a Dagster asset that validates before it publishes.

The checks run on the rows that the function returns. If a blocking check fails, the step raises before the IO manager
publishes, so that readers keep the last good version.
"""

import inspect
import json
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import dagster as dg
from dagster._core.definitions.resource_annotation import get_resource_args

from platform_assets.base.frames import Expression
from platform_assets.engine.query_engine import Engine
from platform_assets.lake.delta_tables import TableStore
from platform_assets.lake.judgements import Judgement
from platform_assets.lake.online_tables import OnlineTables
from platform_assets.lake.schemas import Column, TableSchema
from platform_assets.lake.step_tables import QUARANTINE, STORE, StepTables, step_tables
from platform_assets.lake.validation import HISTORY, Check, Validated, Validator, checks_of, conform
from platform_assets.orchestration.declared import ON_REQUEST
from platform_assets.orchestration.failures import plain_failures

KEY = "platform/key"
ACCUMULATES = "platform/accumulates"
PARTITION_BY = "partition_expr"
"""Dagster's metadata key for the name of the partition column."""
IO_MANAGER = "tables_io"
CONTEXT = "context"
PARTITIONS_PER_RUN = 12
PLANTED = ". Expected: the sample data contain such rows on purpose"
"""Text added to the description of a failed check on sample data."""


def table_asset(
    schema: TableSchema,
    *,
    owners: Sequence[str],
    kinds: set[str] | None = None,
    ins: Mapping[str, dg.AssetIn] | None = None,
    deps: Sequence[dg.AssetsDefinition | dg.AssetKey] = (),
    partitions_def: dg.PartitionsDefinition[str] | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Return a decorator that turns a function into the asset of a table.

    The function's parameters are upstream assets (annotated `Frame` or `Expression`) and resources (annotated
    `dg.ResourceParam[..]`). Its docstring is the asset's description. The function returns a `Frame`, an `Expression`,
    `Rows` (a frame or an expression with metadata), or for an external source the result of `land`. For a table that
    accumulates, it wraps any of these in a `RowBatch`.

    A step reads each upstream table at one pinned version, including the tables in `deps`.

    Parameters
    ----------
    schema
        The table. Its name is the asset's key, its domain the group, and its expectations are the checks.
    owners
        The asset's owners.
    kinds
        Dagster kinds in addition to the kind of the store.
    ins
        Upstream assets, by parameter, that belong to another domain or whose name differs from the parameter's name.
    deps
        Upstream assets that the function reads through a parameter `tables: dg.ResourceParam[TableStore]`.
    partitions_def
        The partitions. `schema.partition_by` assigns each row to one of them. `context.partition_keys` lists the
        partitions that a run materialises: up to `PARTITIONS_PER_RUN` in a backfill.

    Raises
    ------
    ValueError
        Only the schema or only the asset is partitioned. A run for one partition would then replace all partitions.
    """
    _demand_both_partitioned(schema, partitions_def)

    def decorate(work: Callable[..., Any]) -> dg.AssetsDefinition:
        resources = {parameter.name for parameter in get_resource_args(work)}
        with warnings.catch_warnings():
            # Dagster still calls `backfill_policy` a beta feature. Without it, a backfill needs one run per partition.
            warnings.simplefilter("ignore", dg.BetaWarning)
            asset: dg.AssetsDefinition = dg.asset(
                **_declared_by(schema),
                description=inspect.getdoc(work),
                owners=list(owners),
                kinds={_kind(schema), *(kinds or ())},
                required_resource_keys=_resources_of(schema) | resources,
                ins=ins,
                deps=list(deps),
                partitions_def=partitions_def,
                backfill_policy=dg.BackfillPolicy.multi_run(PARTITIONS_PER_RUN) if partitions_def else None,
            )(_step(schema, work, resources))
        return asset

    return decorate


def _resources_of(schema: TableSchema) -> set[str]:
    """Return the resources that the step of each table needs."""
    return {"validator", "tables", "online", *(("database",) if schema.from_itself else ())}


def _declared_by(schema: TableSchema) -> dict[str, Any]:
    """Return the asset's arguments that are derived from the schema of its table."""
    return {
        "key": schema.name.split("/"),
        "group_name": schema.domain,
        "metadata": _table_metadata(schema),
        "freshness_policy": dg.FreshnessPolicy.time_window(fail_window=schema.fresh_within)
        if schema.fresh_within
        else None,
        "check_specs": [_check_spec(schema, check) for check in checks_of(schema)],
        "io_manager_key": IO_MANAGER,
    }


def _demand_both_partitioned(schema: TableSchema, partitions_def: dg.PartitionsDefinition[str] | None) -> None:
    if (partitions_def is None) != (schema.partition_by is None):
        raise ValueError(f"{schema.name}: set both partitions_def and the schema's partition_by, or neither")


def online_check(
    schema: TableSchema, source: TableSchema, compute: Callable[[Expression], Expression]
) -> dg.AssetChecksDefinition:
    """Return the check that an online table equals the rows computed from its source in the lake.

    Parameters
    ----------
    schema
        Schema of the online table.
    source
        The lake table from which the online table is made.
    compute
        Function that computes the online table's rows from the source, as the asset does.
    """

    @dg.asset_check(
        asset=schema.name.split("/"),
        name="online_rows_equal_lake",
        description=f"The rows in PostgreSQL equal those computed from {source.name} in the lake, value for value.",
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
                description=None if lake.digest == served.digest else f"To fix this, materialise {schema.name}.",
            )

    return check


def tables_in_lake(definitions: dg.Definitions) -> list[str]:
    """Return the names of all lake tables, including quarantines, that the definitions create."""
    names = []
    for assets in definitions.assets or ():
        for spec in assets.specs if isinstance(assets, dg.AssetsDefinition) else ():
            name = "/".join(spec.key.path)
            names += [name] if spec.metadata.get(STORE) == "lake" else []
            names += [spec.metadata[QUARANTINE]] if QUARANTINE in spec.metadata else []
    return names


def column_schema(schema: TableSchema) -> dg.TableSchema:
    """Return the columns as a Dagster table schema."""
    return dg.TableSchema(
        columns=[
            dg.TableColumn(
                column.name,
                column.type,
                _description_with_unit(column),
                constraints=dg.TableColumnConstraints(unique=schema.key == (column.name,)),
            )
            for column in schema.columns
        ]
    )


def _description_with_unit(column: Column) -> str:
    if column.unit is None:
        return column.description
    label = "Time zone" if column.type == "timestamp" else "Unit"
    return f"{column.description} {label}: {column.unit}."


def _table_metadata(schema: TableSchema) -> dict[str, Any]:
    return {
        "dagster/column_schema": column_schema(schema),
        "dagster/table_name": schema.name.replace("/", "."),
        STORE: schema.store,
        KEY: list(schema.key),
        ACCUMULATES: schema.accumulates,
        **({ON_REQUEST: True} if schema.on_request else {}),
        **({QUARANTINE: schema.quarantine} if schema.source else {}),
        **({PARTITION_BY: schema.partition_column} if schema.partition_column else {}),
    }


def _kind(schema: TableSchema) -> str:
    return "deltalake" if schema.store == "lake" else "postgres"


def _check_spec(schema: TableSchema, check: Check) -> dg.AssetCheckSpec:
    return dg.AssetCheckSpec(
        check.name, asset=schema.name.split("/"), description=check.description, blocking=check.blocking
    )


def _step(schema: TableSchema, work: Callable[..., Any], resources: set[str]) -> Callable[..., Iterator[Any]]:
    """Return the function that Dagster runs: load the inputs, call `work`, validate its rows."""

    def compute(context: dg.AssetExecutionContext, **inputs: Any) -> Iterator[Any]:
        with ExitStack() as held:
            with plain_failures():
                if schema.from_itself:
                    held.enter_context(context.resources.database.lock(schema.name))
                step = step_tables(
                    context.get_step_execution_context(), context.resources.tables, context.resources.online
                )
            given = inputs | {name: getattr(context.resources, name) for name in resources}
            given |= {name: step.store for name, resource in given.items() if resource is context.resources.tables}
            if CONTEXT in inspect.signature(work).parameters:
                given[CONTEXT] = context
            # Dagster publishes the yielded rows before it resumes this generator, so `held` is released afterwards.
            yield from _validated(context, schema, step, lambda: work(**given))

    compute.__name__ = work.__name__
    compute.__signature__ = _of_step(work, resources)  # type: ignore[attr-defined]  # mypy does not know this attribute
    return compute


def _of_step(work: Callable[..., Any], resources: set[str]) -> inspect.Signature:
    """Return the step's signature for Dagster: the context and the upstream assets.

    Resources are taken from the context, so that an upstream asset may have the same name as a resource.
    """
    context = inspect.Parameter(CONTEXT, inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=dg.AssetExecutionContext)
    own = inspect.signature(work).parameters.values()
    return inspect.Signature([context, *(one for one in own if one.name not in {CONTEXT, *resources})])


def _validated(
    context: dg.AssetExecutionContext, schema: TableSchema, step: StepTables, work: Callable[[], Any]
) -> Iterator[Any]:
    validator: Validator = context.resources.validator
    inputs = step.record()
    with plain_failures():
        tables: TableStore = context.resources.tables
        is_published = schema.source and not schema.accumulates and tables.exists(schema.name)
        history = tables.versions(schema.name, HISTORY) if is_published else []
        validated = validator.validate(schema, work(), history)
    try:
        yield from _check_results(context, schema, validated)
        demo = validated.demo or any(entry["demo"] for entry in inputs.values())
        yield dg.MaterializeResult(
            value=validated,
            # Set no data version for a batch, because its digest does not identify all rows of the table.
            data_version=None if validated.batch else dg.DataVersion(validated.table.digest),
            metadata={**_as_metadata(validated.metadata), "demo": demo, "inputs": dg.MetadataValue.json(inputs)},
        )
    finally:
        validated.discard()


def _check_results(
    context: dg.AssetExecutionContext, schema: TableSchema, validated: Validated
) -> Iterator[dg.AssetCheckResult]:
    """Yield all results, then raise if a blocking check failed."""
    checks = {check.name: check for check in checks_of(schema)}
    failed = [judgement for judgement in validated.judgements if not judgement.passed]
    for judgement in validated.judgements:
        yield _check_result(schema, judgement, checks[judgement.name], demo=validated.demo)
    if failed:
        context.log.warning("%s: failed checks: %s", schema.name, ", ".join(one.name for one in failed))
    blocking = [judgement for judgement in failed if checks[judgement.name].blocking]
    if blocking:
        reasons = "; ".join(_reason(schema, judgement, checks[judgement.name]) for judgement in blocking)
        raise dg.Failure(
            f"{schema.name} was not published: {reasons}. The last good version stays current", allow_retries=False
        )


def _check_result(schema: TableSchema, judgement: Judgement, check: Check, *, demo: bool) -> dg.AssetCheckResult:
    planted = PLANTED if demo and not check.blocking else ""
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
        description=None if judgement.passed else f"{_reason(schema, judgement, check)}{planted}",
        metadata=metadata,
    )


def _reason(schema: TableSchema, judgement: Judgement, check: Check) -> str:
    found = judgement.observed or f"{judgement.broken} of {judgement.rows} rows break this rule"
    # Leave out rows about persons, because alerts send the reason to webhooks and email addresses.
    is_shown = judgement.samples and schema.subject is None
    first = f", e.g. {json.dumps(judgement.samples[0], default=str)}" if is_shown else ""
    return f"{check.name} failed: {found}{first}"


def _as_metadata(facts: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: dg.MetadataValue.json(value) if isinstance(value, dict | list) else value for name, value in facts.items()
    }
