"""Online tables: the features of credit risk, and a catalogue of online tables and library schemas."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = ("platform",)
depends_on = None


def upgrade() -> None:
    op.create_table(
        "library_schemas",
        sa.Column("name", sa.Text, primary_key=True, comment="The database's purpose: dagster or mlflow."),
        sa.Column("versions", sa.Text, nullable=False, comment="Versions of the libraries that migrated the database."),
        sa.Column("revision", sa.Text, comment="Schema revision of the library after the migration."),
        sa.Column("migrated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema="platform",
        comment="Library versions that migrated the databases of Dagster and MLflow.",
    )
    op.create_table(
        "online_tables",
        sa.Column("name", sa.Text, primary_key=True, comment="<domain>/<table>, which is also the asset key."),
        sa.Column("digest", sa.Text, nullable=False, comment="Digest of the rows; it does not depend on their order."),
        sa.Column("rows", sa.BigInteger, nullable=False, comment="Number of rows."),
        sa.Column("run_id", sa.Text, comment="Dagster run that wrote the rows; null if none did."),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
            comment="Time at which the rows last changed.",
        ),
        schema="platform",
        comment="Current content of each online table.",
    )
    op.execute("create schema credit_risk")
    op.create_table(
        "client_features",
        sa.Column("client_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="Number of the client."),
        sa.Column(
            "as_of",
            sa.Date,
            nullable=False,
            comment="Date of the client's newest loan. The features are as of this day.",
        ),
        sa.Column("loan_id", sa.BigInteger, nullable=False, comment="Number of the client's newest loan."),
        sa.Column(
            "nb_previous_loans",
            sa.BigInteger,
            nullable=False,
            comment="Number of loans granted to the client before this one.",
        ),
        sa.Column(
            "avg_amount_loans_previous",
            sa.Double,
            comment="Average amount of the earlier loans, in the currency of the source; null for the first loan.",
        ),
        sa.Column("age", sa.Integer, comment="The client's age on that date, in completed years."),
        sa.Column(
            "years_on_the_job",
            sa.Integer,
            comment="Completed years in the job on that date; null for a client without a job.",
        ),
        sa.Column("flag_own_car", sa.Integer, comment="Whether the client owns a car: 1 yes, 0 no."),
        schema="credit_risk",
        comment="Credit risk features of each client's newest loan.",
    )


def downgrade() -> None:
    op.drop_table("client_features", schema="credit_risk")
    op.execute("drop schema credit_risk")
    op.drop_table("online_tables", schema="platform")
    op.drop_table("library_schemas", schema="platform")
