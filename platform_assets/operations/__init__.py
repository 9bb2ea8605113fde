"""Running the platform: run, up, doctor, supervisor, dead runs, upkeep."""
