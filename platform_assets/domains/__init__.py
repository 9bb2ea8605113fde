"""The use cases, one folder each. They never import each other; they meet by asset key."""
