"""Tables: schemas, checks, quarantine, Delta Lake, online tables in PostgreSQL, and the table assets."""
