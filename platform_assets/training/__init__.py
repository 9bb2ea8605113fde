"""Training: from a model's declaration (`ModelSpec`) to a registered version with metrics, card and explanations."""
