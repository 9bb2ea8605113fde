"""Our own PostgreSQL: finding its programs, starting it, and stopping it when nobody uses it."""
