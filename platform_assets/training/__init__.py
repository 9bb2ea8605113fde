"""From a declared model to a registered version: ModelSpec, fitting, explanations, fingerprints, cards."""
