"""An open data and machine learning asset platform on Dagster."""

from __future__ import annotations

from platform_assets.base import moved_modules

moved_modules.install()
