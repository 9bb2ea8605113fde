"""Live champions, predictions and their log, exported bundles, metrics of the service."""
