"""The table of labels in files: columns, types, and the expectations that are checked before publication."""

from __future__ import annotations

from platform_assets.lake.expectations import is_at_least, is_either, is_present
from platform_assets.lake.landed_files import FILE_COLUMNS, LANDED_AT_COLUMN
from platform_assets.lake.schemas import Column, TableSchema

LABELS_INCOMING = TableSchema(
    name="label_files/labels_incoming",
    columns=(
        *FILE_COLUMNS,
        Column("model", "string", "Name of the registered model."),
        Column(
            "request_id",
            "string",
            "Id of the request whose prediction is labelled; null if `subject` and `at` identify the label.",
        ),
        Column("place", "int64", "Index of the prediction in the request, from 0; null if it is the only prediction."),
        Column("subject", "string", "Id of the labelled item, such as a client; null if not needed."),
        Column("at", "timestamp('UTC')", "Time to which the label of a subject applies; null if `request_id` is set."),
        Column(
            "label",
            "float64",
            "1 or 0 for a classifier, where 1 is the positive class; for a regression model the true value.",
        ),
        Column("observed_at", "timestamp('UTC')", "Time at which the label was observed."),
        LANDED_AT_COLUMN,
    ),
    key=("file_digest", "line"),
    source=True,
    accumulates=True,
    expectations=(
        is_present("model"),
        is_present("label"),
        is_present("observed_at"),
        *is_either("request_id", "at"),
        is_at_least("observed_at", "at"),
    ),
)
