"""Databases of Dagster and MLflow that a newer version of the library has already migrated."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import pytest

from platform_assets.base.errors import DatabaseError
from platform_assets.database.migrate import migrate

if TYPE_CHECKING:
    from platform_assets.database.connections import Database


@pytest.mark.requirement("PLT-14")
@pytest.mark.parametrize("purpose", ["dagster", "mlflow"])
def test_an_unknown_revision_of_a_library_database_raises_a_one_line_error(
    external: Database, purpose: Literal["dagster", "mlflow"]
) -> None:
    with external.connect(purpose) as connection:
        connection.execute("update alembic_version set version_num = 'ffff'")
    with pytest.raises(DatabaseError) as error:
        migrate(external)
    told = str(error.value)
    assert told.startswith(f"{purpose} ")
    assert f"cannot migrate the database {external.name(purpose)} from revision ffff (" in told
    assert told.endswith("; if a newer version of the library migrated it, install that version")
    assert "\n" not in told
