"""PostgreSQL: connections, reads for threads and for the event loop, migrations."""
