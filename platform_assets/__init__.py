"""An open data and machine learning asset platform on Dagster."""
