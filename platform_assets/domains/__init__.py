"""The use cases, one folder each, and functions that collect their declared models, sources and settings.

Domains never import each other. They refer to each other's tables by asset key. Every subpackage is a domain, so there
is no list of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from platform_assets.base.discovery import modules_named
from platform_assets.base.errors import PlatformError
from platform_assets.settings import DomainSettings, Settings, SettingsError, read_settings, variable

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable
    from types import ModuleType

    from platform_assets.lake.schemas import TableSchema
    from platform_assets.landing.declared_sources import DeclaredApi, DeclaredSource
    from platform_assets.landing.landing_zone import DeclaredZone
    from platform_assets.monitoring.trace.declarations import TracedAnswers
    from platform_assets.training.model_spec import ModelSpec

Found = TypeVar("Found")


def all_of(kind: type[Found], modules: Iterable[ModuleType]) -> list[Found]:
    """Return all objects of a class that the modules define or import at the top level."""
    return [value for module in modules for value in vars(module).values() if isinstance(value, kind)]


def api_modules(domains: Collection[str] | None = None) -> list[ModuleType]:
    """Return the `api.py` of every domain, or only of the named domains."""
    return modules_named("api", __name__, domains)


def model_specs() -> list[ModelSpec]:
    """Return every model that a domain's `model.py` declares."""
    from platform_assets.training.model_spec import ModelSpec

    return all_of(ModelSpec, modules_named("model", __name__))


def model_spec(name: str) -> ModelSpec:
    """Return the declaration of a model by its registered name.

    Raises
    ------
    PlatformError
        No domain declares the model. The message lists the declared models.
    """
    specs = {spec.name: spec for spec in model_specs()}
    if name not in specs:
        raise PlatformError(f"there is no model {name!r}; choose one of {', '.join(specs)}")
    return specs[name]


def declared_sources() -> list[DeclaredSource]:
    """Return every source that a domain's `sources.py` declares."""
    from platform_assets.landing.declared_sources import DeclaredSource

    return all_of(DeclaredSource, modules_named("sources", __name__))


def table_schemas() -> list[TableSchema]:
    """Return every table that a domain's `schemas.py` declares."""
    from platform_assets.lake.schemas import TableSchema

    return all_of(TableSchema, modules_named("schemas", __name__))


def declared_zones() -> list[DeclaredZone]:
    """Return every landing zone that a domain's `sources.py` declares."""
    from platform_assets.landing.landing_zone import DeclaredZone

    return all_of(DeclaredZone, modules_named("sources", __name__))


def declared_apis() -> list[DeclaredApi]:
    """Return every HTTP API that a domain's `sources.py` declares."""
    from platform_assets.landing.declared_sources import DeclaredApi

    return all_of(DeclaredApi, modules_named("sources", __name__))


def traced_answers() -> list[TracedAnswers]:
    """Return every kind of response that a domain's `trace.py` makes traceable."""
    from platform_assets.monitoring.trace.declarations import TracedAnswers

    return all_of(TracedAnswers, modules_named("trace", __name__))


def settings_classes() -> list[type[DomainSettings]]:
    """Return the settings classes that the domains' `settings.py` files define.

    Raises
    ------
    SettingsError
        Two classes declare the same variable.
    """
    modules = modules_named("settings", __name__)
    classes = [
        one
        for module in modules
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, DomainSettings) and one.__module__ == module.__name__
    ]
    declared: dict[str, str] = dict.fromkeys(Settings.model_fields, Settings.__module__)
    for one in classes:
        for name in one.model_fields:
            if name in declared:
                places = f"{declared[name]} and {one.__module__}"
                raise SettingsError(f"{variable(name)} is declared twice, in {places}; rename one of them")
            declared[name] = one.__module__
    return classes


def check_settings() -> None:
    """Validate the settings of all domains, so that an invalid value is reported at startup.

    Raises
    ------
    SettingsError
        A value is invalid.
    """
    for one in settings_classes():
        read_settings(one)
