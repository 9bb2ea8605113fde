"""The embedded PostgreSQL server, which the platform starts on first use and stops after the last use."""
