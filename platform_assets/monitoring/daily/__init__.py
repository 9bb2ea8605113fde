"""Daily measurements of every model and table, and alarms about values that differ from earlier values."""
