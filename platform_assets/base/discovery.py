"""Finds the modules of one name in all subpackages of a package, so that nobody keeps a list of them.

The doors of rooms and domains are found this way: `defs.py`, `api.py`, `commands.py`.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection
    from types import ModuleType


def subpackages(package: str) -> list[str]:
    """Return the names of a package's subpackages, sorted, without their parent's name."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.ispkg)


def modules_named(name: str, package: str, only: Collection[str] | None = None) -> list[ModuleType]:
    """Import a module of every subpackage that has it; import no other module.

    Parameters
    ----------
    name
        Name of the module, such as `api`.
    package
        The package whose subpackages are searched, one level deep.
    only
        Names of the subpackages to search; None searches all.
    """
    names = [f"{package}.{one}.{name}" for one in subpackages(package) if only is None or one in only]
    return [importlib.import_module(one) for one in names if find_spec(one) is not None]
