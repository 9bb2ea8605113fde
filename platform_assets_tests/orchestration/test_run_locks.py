from __future__ import annotations

from sqlalchemy import NullPool, create_engine

from platform_assets.orchestration.run_locks import RunLocks
from platform_assets_tests.postgres import wait_until


def test_a_lock_is_taken_again_after_its_connection_is_lost(database_url: str) -> None:
    engine = create_engine(database_url, isolation_level="AUTOCOMMIT", poolclass=NullPool)
    locks = RunLocks(engine, keep_seconds=0.05)
    locks.take("a run")
    with engine.connect() as connection:

        def holders() -> list[int]:
            query = "select pid from pg_locks join pg_database on oid = database where locktype = 'advisory'"
            return list(connection.exec_driver_sql(f"{query} and datname = current_database()").scalars())

        (first,) = holders()
        connection.exec_driver_sql("select pg_terminate_backend(%s)", (first,))
        wait_until(lambda: holders() not in ([], [first]), "the lock was taken again")
    assert not RunLocks(engine).try_take("a run")
    locks.release("a run")
    assert RunLocks(engine).try_take("a run")
