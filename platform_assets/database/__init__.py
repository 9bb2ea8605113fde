"""PostgreSQL: the embedded server, connections, fast reads from threads and event loops, and migrations."""
