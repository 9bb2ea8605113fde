"""Benchmarks of the platform against hand-written code and other tools. Run them with `make bench`."""
