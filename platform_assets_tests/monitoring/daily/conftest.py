"""Fixtures for tests of the daily measurements."""

from __future__ import annotations

from platform_assets_tests.monitoring.drift.conftest import bench, database, station, trained

__all__ = ["bench", "database", "station", "trained"]
