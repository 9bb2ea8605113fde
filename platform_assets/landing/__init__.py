"""Landing of external data: source files, archives, SQLite, sample data, and the sensor that watches a source."""
