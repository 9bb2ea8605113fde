"""Evaluation of models: metrics with intervals, splits, thresholds, the quality gate, plots and near-duplicates."""
