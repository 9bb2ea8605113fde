"""Health check of the container `daemon`: exit with 0 if Dagster's daemon sent heartbeats in the last five minutes.

`dagster-daemon liveness-check` does the same, but it imports Dagster, which takes seconds of processor time.
"""

import os
import sys

import psycopg

FRESH = """
select count(*) from daemon_heartbeats
where daemon_type in ('SENSOR', 'SCHEDULER') and timestamp > now() at time zone 'utc' - interval '5 minutes'
"""

url = os.environ["PLATFORM_DATABASE_URL"]
name = psycopg.conninfo.conninfo_to_dict(url)["dbname"]
with psycopg.connect(url, dbname=f"{name}_dagster", connect_timeout=5) as connection:
    (fresh,) = connection.execute(FRESH).fetchone()
sys.exit(fresh < 2)
