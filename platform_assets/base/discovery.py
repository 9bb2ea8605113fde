"""Import the modules with a given name from all subpackages of a package.

The platform uses it to find the `defs.py`, `api.py` and `commands.py` of its subpackages and domains without a list.
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
    """Return the unqualified names of a package's direct subpackages, sorted."""
    path = importlib.import_module(package).__path__
    return sorted(module.name for module in pkgutil.iter_modules(path) if module.ispkg)


def modules_named(name: str, package: str, only: Collection[str] | None = None) -> list[ModuleType]:
    """Import the module with a given name from each subpackage that contains it.

    Parameters
    ----------
    name
        Name of the module, for example `api`.
    package
        The package whose subpackages are searched, one level deep.
    only
        Names of the subpackages to search; None for all subpackages.
    """
    names = [f"{package}.{one}.{name}" for one in subpackages(package) if only is None or one in only]
    return [importlib.import_module(one) for one in names if find_spec(one) is not None]
