"""PostgreSQL: opening it, connections, reads for threads and for the event loop, migrations."""
