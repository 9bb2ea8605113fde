"""The use cases, one folder each. They never import each other; they meet by asset key.

A folder is a domain by what is in it: nobody lists them. Whoever works on all of them asks here for one
module of each (`defs`, `model`, `api`), or for the models that they declare.
"""

from __future__ import annotations

import importlib
import pkgutil
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from platform_assets.base.errors import PlatformError
from platform_assets.training.model_spec import ModelSpec

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import ModuleType

Found = TypeVar("Found")


def modules_of(room: str, domains: Collection[str] | None = None) -> list[ModuleType]:
    """That module of every domain which has it, or of some domains only, by their names; imports no other."""
    found = [domain.name for domain in pkgutil.iter_modules(__path__)]
    names = [f"{__name__}.{name}" for name in found if domains is None or name in domains]
    return [
        importlib.import_module(f"{name}.{room}") for name in sorted(names) if find_spec(f"{name}.{room}") is not None
    ]


def all_of(kind: type[Found], modules: Iterable[ModuleType]) -> list[Found]:
    """Every object of a kind that some modules name."""
    return [value for module in modules for value in vars(module).values() if isinstance(value, kind)]


def model_specs() -> list[ModelSpec]:
    """Every model that a domain's `model.py` declares."""
    return all_of(ModelSpec, modules_of("model"))


def model_spec(name: str) -> ModelSpec:
    """The model that is registered under a name.

    Raises
    ------
    PlatformError
        No domain declares it; names those that are.
    """
    specs = {spec.name: spec for spec in model_specs()}
    if name not in specs:
        raise PlatformError(f"there is no model {name!r}; there are {', '.join(specs)}")
    return specs[name]
