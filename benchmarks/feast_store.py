"""Copy rows of the platform into a Feast feature store.

`python feast_store.py REPOSITORY ROWS` declares the features in the folder REPOSITORY, which has a
`feature_store.yaml`, and writes the rows of the parquet file ROWS to the online store. The script runs in Feast's
environment, where the platform is not installed.
"""

from __future__ import annotations

import sys
from datetime import timedelta

VIEW = "client_features"
KEY = "client_id"
TIME = "as_of"
TYPES = {
    "nb_previous_loans": "Int64",
    "avg_amount_loans_previous": "Float64",
    "age": "Int32",
    "years_on_the_job": "Int32",
    "flag_own_car": "Int32",
}
"""Names and types of the features. Feast and pandas use the same names for these types."""


def fill(repository: str, rows: str) -> None:
    """Declare the features, and write the rows to the online store."""
    import feast
    import feast.types
    import pandas as pd

    client = feast.Entity(name="client", join_keys=[KEY], value_type=feast.ValueType.INT64)
    view = feast.FeatureView(
        name=VIEW,
        entities=[client],
        schema=[feast.Field(name=name, dtype=getattr(feast.types, kind)) for name, kind in TYPES.items()],
        source=feast.FileSource(path=rows, timestamp_field=TIME),
        ttl=timedelta(0),  # rows never expire
    )
    store = feast.FeatureStore(repo_path=repository)
    store.apply([client, view])
    store.write_to_online_store(VIEW, pd.read_parquet(rows))


if __name__ == "__main__":
    fill(*sys.argv[1:])
