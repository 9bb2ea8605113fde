"""What comes in from outside: source files, archives, SQLite, sample data, and the sensor on a source."""
