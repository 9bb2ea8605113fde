"""Modules that stored models name by their former paths, and importing them under these paths.

Our own loader (`models/artefact_format.py`) replaces the paths. MLflow's tools, which people use on the copies that
the registry keeps, import them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import ModuleType

MOVED = {
    "platform_assets.core.calibration": "platform_assets.models.calibration",
    "platform_assets.core.number_estimators": "platform_assets.models.number_estimators",
    "platform_assets.core.text_estimators": "platform_assets.models.text_estimators",
}
"""Where a module is now, by its former path. Entries stay for ever."""


class MovedModules(MetaPathFinder, Loader):
    """Imports a module under its former path; nothing is imported before somebody asks."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Find a former path, or a package that it was in."""
        is_package = any(one.startswith(f"{name}.") for one in MOVED)
        return ModuleSpec(name, self, is_package=is_package) if name in MOVED or is_package else None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of today in the place of the former one; a former package stays empty."""
        if module.__name__ in MOVED:
            sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def install() -> None:
    """Let former paths be imported, wherever no other module has taken them."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
