"""How good a model is: metrics with intervals, splits, thresholds, the gate, plots, near-duplicates."""
