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
        sa.Column("versions", sa.Text, nullable=False, comment="The libraries that migrated it."),
        sa.Column("revision", sa.Text, comment="The library's own version of its tables, after that."),
        sa.Column("migrated_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        schema="platform",
        comment="Which library versions migrated the databases beside this one.",
    )
    op.create_table(
        "online_tables",
        sa.Column("name", sa.Text, primary_key=True, comment="<domain>/<table>, which is also the asset key."),
        sa.Column("digest", sa.Text, nullable=False, comment="Digest of the rows, the same in any order."),
        sa.Column("rows", sa.BigInteger, nullable=False, comment="Number of rows."),
        sa.Column("run_id", sa.Text, comment="The Dagster run that wrote them; null outside of one."),
        sa.Column(
            "updated_at",
            sa.DateTime(timezone=True),
            nullable=False,
            server_default=sa.func.now(),
            comment="When they were written.",
        ),
        schema="platform",
        comment="What the tables that are read row by row hold at the moment.",
    )
    op.execute("create schema credit_risk")
    op.create_table(
        "client_features",
        sa.Column("client_id", sa.BigInteger, primary_key=True, autoincrement=False, comment="The client."),
        sa.Column("as_of", sa.Date, nullable=False, comment="Date of the client's newest loan, which the rest is of."),
        sa.Column("loan_id", sa.BigInteger, nullable=False, comment="The client's newest loan."),
        sa.Column(
            "nb_previous_loans", sa.BigInteger, nullable=False, comment="Loans granted to the client before that one."
        ),
        sa.Column(
            "avg_amount_loans_previous",
            sa.Double,
            comment="Average amount of those loans, in the currency of the source; null without any.",
        ),
        sa.Column("age", sa.Integer, comment="The client's age on that date, in completed years."),
        sa.Column(
            "years_on_the_job",
            sa.Integer,
            comment="Completed years in the job held on that date; null without a job.",
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
