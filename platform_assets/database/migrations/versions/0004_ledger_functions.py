"""Stand-in for the ledger's functions, which are written elsewhere. It changes nothing and is to be replaced."""

from __future__ import annotations

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Change nothing."""


def downgrade() -> None:
    """Change nothing."""
