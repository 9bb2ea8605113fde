"""Reword the comments on tables and columns in plain English, and add missing comments.

The SQL of earlier migrations must not be edited, because databases have already been migrated with it.
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

TABLE = ""
"""Key of the comment on the table itself."""
MEASURED = {
    "arrived_at": "Time at which the batch arrived. For a day: time at which its last batch arrived.",
    "batch": "Id of the batch, such as a file's digest. For a day: its date.",
    "stream": "Table that collects the model's new rows.",
    "unit": "`batch`: rows that arrived together, or `day`: all rows that arrived on a day (UTC).",
}
"""Comments on columns that several tables of drift monitoring have."""


def measured(*names: str) -> dict[str, str]:
    """Return some of the comments in `MEASURED`."""
    return {name: MEASURED[name] for name in names}


COMMENTS: dict[str, dict[str, str]] = {
    "credit_risk.client_features": {
        "client_id": "Id of the client.",
        "as_of": "Date of the client's newest loan. The features are computed as of this day.",
        "loan_id": "Id of the client's newest loan.",
        "nb_previous_loans": "Number of loans granted to the client before the newest loan.",
        "avg_amount_loans_previous": "Average amount of the loans granted to the client before the newest loan, in the "
        "currency of the source; null if there are none.",
        "age": "Age of the client on the date of the newest loan, in completed years.",
        "years_on_the_job": "Completed years in the client's job on the date of the newest loan; null if the client "
        "had no job on that day.",
    },
    "platform.alembic_version": {
        TABLE: "Current revision of each branch of migrations. Written by Alembic.",
        "version_num": "Revision: `<number>` in the platform's branch, `<domain>_<number>` in the branch of a domain.",
    },
    "platform.api_key_revocations": {
        TABLE: "Revoked keys.",
        "hash": "`hash` of the key in the table api_keys.",
        "at": "Time at which the key was revoked.",
    },
    "platform.api_keys": {
        TABLE: "API keys of people and programs, and people who sign in without a key.",
        "hash": "SHA-256 of the key's secret. For a person who signs in without a key: a random value.",
        "name": "Name of the key. No two keys that are not revoked have the same name.",
        "owner": "Person or program that uses the key.",
        "created_at": "Time at which the key was created.",
        "is_person": "True for a person who signs in without a key; `name` is then the person's name at the OpenID "
        "Connect provider or the proxy. Null for a key.",
    },
    "platform.approval_events": {
        TABLE: "Events of all approval requests, in one hash chain.",
        "sequence": "Number of the event: 1, 2, 3 and so on, across all requests.",
        "request_id": "`id` of the approval request.",
        "state": "State of the request after the event, such as PENDING, APPROVED or PROMOTED.",
        "kind": "Kind of the event, such as request, approve, reject, promote or expire.",
        "actor": "Person or program that caused the event; `platform` if the platform itself did. The name of a person "
        "whose identity was not verified starts with `unverified: `.",
        "authenticated": "Whether a key or a sign-in verified the identity of the actor.",
        "reason": "Reason for the event, for example of a decision; null if none was given.",
        "delivery": "Idempotency key, so that a decision that is sent twice is recorded once; null if none was sent.",
        "details": "Further data for programs, as JSON, for example the proof of identity or the promoted version.",
        "at": "Time of the event, by the database's clock.",
        "request_digest": "SHA-256 of the request's row.",
        "previous_hash": "`hash` of the previous event; zeros for the first event.",
        "hash": "SHA-256 of all other columns.",
    },
    "platform.approval_journal": {
        TABLE: "Hash chain that records keys, revocations, projections, rules and policies. The newest entry of a "
        "rule or policy is in force.",
        "sequence": "Number of the entry: 1, 2, 3 and so on, without gaps.",
        "kind": "Kind of the entry: key, revocation, projection, rules, policy, folding or adoption.",
        "subject": "Subject of the entry: hash of a key, sequence of an event, or name of a model or table; empty for "
        "rules.",
        "details": "Recorded values, as JSON, for example the owner and the scopes of a key, or a policy.",
        "role": "Database role that was logged in when the entry was written.",
        "at": "Time of the entry, by the database's clock.",
        "previous_hash": "`hash` of the previous entry; zeros for the first entry.",
        "hash": "SHA-256 of all other columns.",
    },
    "platform.approval_plots": {
        TABLE: "Plots that belong to the evidence of approval requests.",
        "request_id": "`id` of the approval request.",
        "name": "File name of the plot.",
        "png": "The plot, as PNG.",
    },
    "platform.approval_projections": {
        TABLE: "Promotions and rollbacks that the MLflow registry already shows.",
        "sequence": "`sequence` of the event.",
        "at": "Time at which the update of the registry was recorded.",
    },
    "platform.approval_requests": {
        TABLE: "Requests to make a version of a model the champion, with the evidence at the time of the request.",
        "id": "Number of the request.",
        "version": "Version of the model in the registry.",
        "digest": "SHA-256 of the model file.",
        "threshold": "Smallest score for which the model decides positive; null if the model makes no decisions.",
        "launched_by": "Person, schedule or sensor that launched the training; null if unknown.",
        "requested_by": "Person who made the request; null if a training run made it.",
        "created_at": "Time of the request, by the database's clock.",
        "expires_at": "Time at which the request expires.",
        "policy": "Approval policy of the model at the time of the request, as JSON.",
        "evidence": "Evidence for the decision, as JSON: metrics, verdict of the quality gate, table versions, code "
        "version and more.",
        "plots": "SHA-256 of each plot, by file name.",
        "champion_version": "Version of the champion at the time of the request; null if there was no champion.",
        "champion_digest": "SHA-256 of the champion's model file; null if there was no champion.",
    },
    "platform.backups": {
        TABLE: "Backups that were written completely and checked.",
        "id": "Number of the backup.",
        "at": "Time at which the databases were read for the backup.",
        "place": "Machine and folder of the backup, as `<machine>:<folder>`.",
        "digest": "SHA-256 of the backup's manifest.",
        "bytes": "Total size of the backup's files, in bytes.",
    },
    "platform.case_folding": {
        TABLE: "Unicode case folding, as in Python's str.casefold. Names of people in approvals are compared in folded "
        "form.",
        "letter": "Character that case folding changes.",
        "folded": "Folded form of the character: one or more characters.",
    },
    "platform.drift": {
        TABLE: "Drift of each feature, by batch and by day.",
        **measured("stream", "unit", "batch"),
        "feature": "Name of the feature, or `all numeric features` for their joint distribution, or `predicted "
        "probability`.",
        "version": "Model version whose training rows the rows were compared with.",
        "n": "Number of rows.",
        "statistic": "Evidence of drift, a test statistic. Without drift, its expected value is the number of days "
        "since it was last reset. For a day: the evidence of its last batch.",
        "threshold": "Smallest `statistic` that raises an alarm.",
        "effect": "Distance between the distributions of the rows and of the training rows, from 0 to 1.",
        "alarm": "Whether `statistic` reached `threshold`. For a day: whether it did in at least one of its batches.",
        "deviation": "Description of the deviation with the most evidence.",
    },
    "platform.drift_batches": {
        TABLE: "Batches and days of new rows that were compared with the training rows of a model.",
        **measured("stream", "unit", "batch", "arrived_at"),
        "name": "Name of the batch for display, such as a file name.",
        "version": "Model version whose training rows the rows were compared with.",
        "alarm": "Whether a feature raised an alarm. For a day: whether one did in at least one of its batches.",
        "outside": "Share of rows outside the training range, from 0 to 1; null if that range is unknown.",
        "measured_at": "Time of the measurement.",
        "run": "Id of the Dagster run that measured the drift.",
    },
    "platform.drift_evidence": {
        TABLE: "Evidence of drift that has accumulated so far. The next batch adds to it.",
        **measured("stream"),
        "feature": "Name of the feature; see the table drift.",
        "reference": "SHA-256 that identifies the model version, its training rows and the budget of false alarms. "
        "If it changes, the evidence starts again from zero.",
        "capital": "Natural logarithm of the capital of each bet of the betting test, as float64 values.",
    },
    "platform.erasures": {
        TABLE: "People whose data was erased, each as a keyed hash of the id, which is not personal data. Rows about "
        "them are left out when a source is loaded again.",
        "id": "Number of the erasure.",
        "at": "Time at which the erasure was first recorded.",
        "key": "Secret key of the hashes; it is the same in all rows.",
        "found": "Result, as JSON: number of erased rows by place, model versions that were trained on the person's "
        "data, backups, and places where the id is still found.",
    },
    "platform.estimated_performance": {
        TABLE: "Performance of the model on each batch and day, estimated before the labels are known.",
        **measured("stream", "unit", "batch"),
        "metric": "Name of the metric: recall, precision, f2 or accuracy.",
        "version": "Model version whose performance is estimated.",
        "value": "Estimated value; null if it cannot be estimated.",
        "low": "Lower bound of the 95 % interval; null if it cannot be estimated.",
        "high": "Upper bound of the 95 % interval; null if it cannot be estimated.",
    },
    "platform.incident_messages": {
        TABLE: "Messages about incidents. A message is stored when its incident changes, and sent later.",
        "incident": "`id` of the incident.",
        "event": "What happened to the incident: `opened`, `reopened`, `escalated` or `closed`.",
        "opening": "`opening` of the incident when the message was stored.",
        "destination": "Receiver: `mail` and an email address, or `webhook` and a part of the SHA-256 of its URL.",
        "created_at": "Time at which the message was stored.",
        "due_at": "Earliest time of the next attempt to send the message.",
        "attempts": "Number of attempts to send the message.",
        "sent_at": "Time at which the receiver accepted the message; null if it has not been sent.",
        "failure": "Reason why the last attempt failed; empty if it succeeded or no attempt was made.",
    },
    "platform.incidents": {
        TABLE: "Problems that people are notified about.",
        "cause": "Kind of the problem and the affected object. A cause has at most one open incident.",
        "title": "Description of the problem in one sentence.",
        "owners": "Owners of the affected asset. If empty, messages use the default route.",
        "link": "URL of the run or page, or its path in Dagster's UI; empty if there is none.",
        "occurrence": "Id of the newest event with this cause, such as a failed run; empty if the problem is a state.",
        "opening": "Number of times that the incident was opened: 1, plus 1 for each time it was reopened.",
        "seen": "Number of different events reported in this incident. For a state: the same as `opening`.",
        "opened_at": "Time at which the incident was last opened or reopened, by the database's clock.",
        "seen_at": "Time at which the problem was last reported.",
        "escalated_at": "Time at which the incident was escalated; null if it was not, or was reopened since.",
        "closed_at": "Time at which the incident was closed; null if it is open.",
        "closed_by": "Person who closed the incident; empty if it is open, or was closed because the problem ended.",
        "recovered_at": "Time at which the platform found that the problem had ended; null before that.",
        "silenced_until": "Time until which messages about the incident are delayed; null if it was never silenced.",
        "silenced_by": "Person who silenced the incident; empty if it was never silenced.",
        "silence_reason": "Reason for the silence; empty if the incident was never silenced.",
    },
    "platform.labels": {
        TABLE: "Labels, that is, observed outcomes of predictions. A stored label never changes; a label that was "
        "observed later supersedes it.",
        "request_id": "Id of the request whose prediction is labelled; null if the label is for a subject.",
        "batch": "`batch` of the labelled row in the table predictions; null if the label is for a subject.",
        "place": "`place` of the labelled row in the table predictions; null if the label is for a subject.",
        "subject": "Id of the labelled subject, such as a client; null if the label is for a request.",
        "at": "Time to which the label of a subject applies; null if the label is for a request.",
        "label": "Observed outcome. For a classifier: 1 if positive, 0 if negative. For regression: the value.",
        "observed_at": "Time of the observation.",
        "arrived_at": "Time at which the label was stored, by the database's clock.",
        "sender": "Name of the API key that sent the label, or of the file; empty if no key was needed.",
    },
    "platform.lake": {
        "place": "Last known location of the lake.",
        "is_marked": "Whether the identity has been written into the lake.",
        "bound_at": "Time at which the lake and the database were bound to each other.",
    },
    "platform.landing_files": {
        TABLE: "Contents of the files in landing zones. Files of a zone with the same content share one row.",
        "digest": "SHA-256 of the content.",
        "size": "Size in bytes; null if only the lake has a record of the file.",
        "first_seen_at": "Time at which the content was first read.",
        "reason": "Why the file was set aside, or why a found file cannot be read; null otherwise.",
        "run": "Id of the Dagster run that last took the file or changed its state; null before the first one.",
        "batch": "Number of the batch that adds the file's rows to the lake; null if the file is in no batch.",
        "batch_at": "Time at which the batch was created, which is `landed_at` of its rows in the lake; null if "
        "unknown.",
    },
    "platform.landing_names": {
        TABLE: "Files that the last listing of a landing zone found. This table is a cache: if its rows are lost, each "
        "file is read again.",
        "marks": "Modification time, entity tag and similar metadata from the file's store.",
        "seen_at": "Time at which the current `size` and `marks` were first listed, by the database's clock; -infinity "
        "for files that the platform wrote itself.",
        "digest": "SHA-256 of the content; null if it was not read since `size` or `marks` changed.",
        "problem": "Why the file cannot be read; null if no problem is known.",
    },
    "platform.library_schemas": {
        TABLE: "Library versions that last migrated the databases of Dagster and MLflow.",
        "name": "Purpose of the migrated database: dagster or mlflow.",
        "versions": "Names and versions of the libraries.",
        "revision": "Revision of the library's tables after the migration; null if there is none.",
        "migrated_at": "Time of the migration.",
    },
    "platform.online_tables": {
        TABLE: "Current version of each online table. Online tables are read row by row, by key.",
        "name": "`<domain>/<table>`, which is also the asset key.",
        "digest": "Digest of the rows; it does not depend on their order.",
        "run_id": "Id of the Dagster run that last published the rows; null if they were published outside a run.",
        "updated_at": "Time at which the rows last changed.",
        "inputs": "Version of each lake table that the rows were made from, by table name.",
        "version": "Number of the version, from 1. It increases if the rows or their inputs change.",
    },
    "platform.online_versions": {
        TABLE: "All versions of the online tables. Each version has other rows or other inputs than the previous one.",
        "name": "`<domain>/<table>`, which is also the asset key.",
        "digest": "Digest of the rows; it does not depend on their order.",
        "run_id": "Id of the Dagster run that published the rows; null if they were published outside a run.",
        "inputs": "Version of each lake table that the rows were made from, by table name.",
        "published_at": "Time at which the version was published.",
    },
    "platform.predictions": {
        TABLE: "Log of the predictions that the service returned. `platform-assets upkeep` deletes old rows.",
        "batch": "Id of the write that stored the row, so that a repeated write does not store it again.",
        "place": "Position of the row in the batch, from 0.",
        "at": "Time of the prediction, by the service's clock.",
        "version": "Version of the model in the registry.",
        "approval_id": "`id` of the approval request by which the version became the champion.",
        "caller": "Name of the caller's key in the table api_keys; empty if no key was needed.",
        "request_id": "Id of the HTTP request.",
        "subject": "Id of the item that the prediction is about, such as a client; null if it has no id.",
        "features": "Values of the features, by name.",
        "score": "Probability of the positive class. For regression: the predicted value.",
        "positive": "Whether `score` reached `threshold`; null if the model makes no decisions.",
        "threshold": "Smallest score for which the model decides positive; null if the model makes no decisions.",
    },
    "platform.refused_labels": {
        TABLE: "Labels from files that were refused, for example because there is no such prediction. The lake table "
        "label_files/labels_incoming contains their rows.",
        "file_digest": "SHA-256 of the file's content.",
        "line": "Line number in the file.",
        "at": "Time at which the label was refused, by the database's clock.",
    },
    "platform.request_statistics": {
        TABLE: "Counts of prediction requests by model. Each process of the service adds rows about once a minute.",
        "at": "Time at which the counts were written, by the service's clock.",
        "requests": "Number of requests since the process last wrote its counts.",
        "failures": "Number of these requests that were answered with status 500 or above.",
        "durations": "Histogram of the durations: number of requests in each bucket. The first bucket ends at 0.1 ms, "
        "16 buckets cover a factor of 10, and the last bucket has no upper bound.",
    },
    "platform.sessions": {
        TABLE: "Browser sessions. A row is kept for at least a day after the sign-in, so that the token of an ended "
        "session cannot start another session.",
        "key_hash": "`hash` of the signed-in key or person in the table api_keys.",
        "expires_at": "End of the session. It is set to the current time when the person signs out, or when the key is "
        "revoked.",
        "scopes": "Scopes to which the person's groups limit the session; null if there is no limit.",
        "via": "How the person signed in without a key: oidc or proxy; null if a key was used.",
        "vouched_by": "`hash` of the service's key with the scope identify, which confirmed the identity of a person "
        "without a key; null if a key was used.",
    },
    "platform.shadow_losses": {
        TABLE: "Counts of rows that a shadow did not score. Each process of the service adds rows.",
        "approval_id": "`id` of the approval request of the shadow, which is a version that awaits approval.",
        "at": "Time at which the counts were written, by the service's clock.",
        "dropped": "Number of rows that were not scored because the queue was full, the version was not loaded, or the "
        "service stopped.",
        "failed": "Number of rows that the version could not score.",
        "reason": "Last reason why the version could not be loaded or could not score a row; null if there was none.",
    },
    "platform.shadow_predictions": {
        TABLE: "Scores of shadows: versions that await approval and score the same requests as the champion. The "
        "service does not return these scores.",
        "batch": "Id of the write that stored the row, so that a repeated write does not store it again.",
        "place": "Position of the row in the batch, from 0.",
        "version": "Version that scored as a shadow.",
        "approval_id": "`id` of the version's approval request.",
        "request_id": "Id of the HTTP request.",
        "item": "Position of the row in the HTTP request, from 0.",
        "subject": "Id of the item that the prediction is about, such as a client; null if it has no id.",
        "score": "Probability or value that the shadow predicted.",
        "champion_score": "Probability or value that the champion predicted.",
        "agrees": "For a classifier: whether the shadow and the champion made the same decision. For regression: "
        "whether the shadow's interval contains the champion's value.",
    },
    "platform.watch_heartbeats": {
        TABLE: "Heartbeats of the components that watch the platform.",
        "name": "Name of the component, such as `sensor incidents`.",
        "at": "Time of the last heartbeat.",
        "since": "Time of the first heartbeat after the last long interruption.",
    },
}


def upgrade() -> None:
    for table, comments in COMMENTS.items():
        schema, name = table.split(".")
        for column, comment in comments.items():
            if column == TABLE:
                op.create_table_comment(name, comment, schema=schema)
            else:
                op.alter_column(name, column, comment=comment, schema=schema)


def downgrade() -> None:
    """Keep the comments, because they describe the tables of older revisions too."""
