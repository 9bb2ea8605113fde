"""Import of moved modules under their former paths, which stored models contain.

The platform's own loader (`models/artefact_format.py`) replaces the paths. MLflow's tools import the former paths when
they load the copies in the registry.
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
"""Current path of a module by its former path. Entries are never removed."""


class MovedModules(MetaPathFinder, Loader):
    """Imports a module under its former path, on first import of that path."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return a spec for a former path, or for a package above it."""
        is_package = any(one.startswith(f"{name}.") for one in MOVED)
        return ModuleSpec(name, self, is_package=is_package) if name in MOVED or is_package else None

    def exec_module(self, module: ModuleType) -> None:
        """Register the current module under the former path. A former package stays empty."""
        if module.__name__ in MOVED:
            sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def install() -> None:
    """Make former paths importable, unless another module uses them."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
