"""Fitted models as files, the registry, our own estimators, compiled pipelines."""
