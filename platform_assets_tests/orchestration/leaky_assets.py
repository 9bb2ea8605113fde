"""Assets and a check that give a secret to Dagster, and one that does not."""

import json

import dagster as dg

SECRET = 'hunter2 "with" Größe'


def materialise(asset: dg.AssetsDefinition, instance: dg.DagsterInstance) -> str:
    checks = [talkative] if asset is leaky else []
    return dg.materialize([asset, *checks], instance=instance, raise_on_error=False).run_id


@dg.asset
def leaky() -> dg.MaterializeResult[None]:
    dg.get_dagster_logger().info("found %s", SECRET)
    return dg.MaterializeResult(
        metadata={
            "text": f"from {SECRET}",
            "json": dg.MetadataValue.json({"deep": [json.dumps({"deeper": SECRET})]}),
            "url": dg.MetadataValue.url("postgresql://user:hunter3@host/name"),
            "rows": 3,
        },
    )


@dg.asset_check(asset=leaky)
def talkative() -> dg.AssetCheckResult:
    return dg.AssetCheckResult(passed=False, description=f"seen {SECRET}", metadata={"seen": SECRET})


@dg.asset
def broken() -> None:
    raise ValueError(f"could not log in with {SECRET}")


@dg.asset
def harmless() -> dg.MaterializeResult[None]:
    return dg.MaterializeResult(metadata={"note": "nothing to hide", "rows": 3})
