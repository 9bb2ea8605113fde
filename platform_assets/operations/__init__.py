"""Commands and jobs that operate the platform, such as `run`, `up`, `doctor`, backup and upkeep."""
