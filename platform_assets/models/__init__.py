"""Model artefacts, the model registry, the platform's estimators and compiled pipelines."""
