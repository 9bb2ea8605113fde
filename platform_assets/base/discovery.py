"""Import the modules of one name from all subpackages of a package.

The program finds `defs.py`, `api.py` and `commands.py` of rooms and domains this way, without a list.
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
    """Return the sorted names of a package's subpackages, without the package's own name."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.ispkg)


def modules_named(name: str, package: str, only: Collection[str] | None = None) -> list[ModuleType]:
    """Import one module from every subpackage that has it, and no other module.

    Parameters
    ----------
    name
        Name of the module, for example `api`.
    package
        The package whose subpackages are searched, one level deep.
    only
        Names of the subpackages to search; None for all.
    """
    names = [f"{package}.{one}.{name}" for one in subpackages(package) if only is None or one in only]
    return [importlib.import_module(one) for one in names if find_spec(one) is not None]
