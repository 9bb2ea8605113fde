"""Plain Python that every domain shares: no Dagster, no FastAPI, no domain's words."""
