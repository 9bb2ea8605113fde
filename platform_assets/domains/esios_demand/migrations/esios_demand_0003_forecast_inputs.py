"""Column with the table versions that an issued forecast was made from, for `platform-assets trace`."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects.postgresql import JSONB

revision = "esios_demand_0003"
down_revision = "esios_demand_0002"
branch_labels = None
depends_on = None

SCHEMA = "esios_demand"
TABLE = "forecasts"
INPUTS = "inputs"


def upgrade() -> None:
    comment = "Versions of the lake's tables that the features came from, by table; null if they were not recorded."
    op.add_column(TABLE, sa.Column(INPUTS, JSONB, comment=comment), schema=SCHEMA)


def downgrade() -> None:
    op.drop_column(TABLE, INPUTS, schema=SCHEMA)
