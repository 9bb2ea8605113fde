"""Make moved modules importable under their former paths, because stored models contain these paths.

The platform's own loader (`models/artefact_loader.py`) replaces the paths. This module is for MLflow's tools, which
import the old paths when they load the copies of models in the registry.
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
"""Maps the former path of each moved module to its current path.

Never remove an entry: stored models contain former paths.
"""


class MovedModules(MetaPathFinder, Loader):
    """Import hook that finds modules under their former paths."""

    def find_spec(self, name: str, *_: object) -> ModuleSpec | None:
        """Return a spec if the name is a former path or one of its parent packages, else None."""
        is_package = any(one.startswith(f"{name}.") for one in MOVED)
        return ModuleSpec(name, self, is_package=is_package) if name in MOVED or is_package else None

    def exec_module(self, module: ModuleType) -> None:
        """Register the current module under its former path; leave a former parent package empty."""
        if module.__name__ in MOVED:
            sys.modules[module.__name__] = import_module(MOVED[module.__name__])


def install() -> None:
    """Install the import hook once. Existing modules take precedence over former paths."""
    if not any(isinstance(finder, MovedModules) for finder in sys.meta_path):
        sys.meta_path.append(MovedModules())
