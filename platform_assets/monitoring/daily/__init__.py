"""Daily measurements of every model and table, and alarms if a value differs too much from earlier values."""
