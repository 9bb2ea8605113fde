"""Daily measurements of every model and table, and the alarms about values that are unlike earlier values."""
