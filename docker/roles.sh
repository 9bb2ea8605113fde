#!/bin/sh
# Create the platform's roles and its database when PostgreSQL starts for the first time. docs/approval.md explains the
# roles. `platform-assets migrate` later creates the databases of Dagster and MLflow with the owner role.
set -eu
app=$(cat /run/secrets/app_password)
owner=$(cat /run/secrets/owner_password)
psql --username postgres --set ON_ERROR_STOP=1 --set app="$app" --set owner="$owner" <<'SQL'
create role platform_ledger nologin;
create role platform_app login password :'app';
create role platform_owner login createdb password :'owner' in role platform_app, platform_ledger;
create database platform owner platform_owner encoding 'UTF8' locale 'C.UTF-8' template template0;
SQL
