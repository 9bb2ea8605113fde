"""Alembic environment: runs the migrations on the connection of `database/migrate.py`, in one transaction."""

from __future__ import annotations

from alembic import context
from sqlalchemy import Connection, text

connection: Connection = context.config.attributes["connection"]
# Alembic's own table is in the platform's schema, because `public` belongs to the administrator of the server.
connection.execute(text("create schema if not exists platform"))
connection.commit()
context.configure(connection=connection, version_table_schema="platform", transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
connection.commit()
