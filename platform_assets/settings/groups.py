"""Base classes of the groups of variables, which are read from the environment and validated."""

from __future__ import annotations

import difflib
import os
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from platform_assets.settings.variables import PREFIX, SECRET_NAME, variable

if TYPE_CHECKING:
    from collections.abc import Iterable

Group = TypeVar("Group", bound="SettingsGroup")
LONGEST_DAYS = 365_000
"""Largest number of days in a variable. Python cannot represent dates further in the past or future."""


class SettingsError(Exception):
    """A variable has an invalid value; the message names the variable and the allowed values."""


class SettingsGroup(BaseSettings):
    """A group of variables; each field is the variable `PLATFORM_<FIELD>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid", hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _without_surrounding_blanks(cls, values: dict[str, Any]) -> dict[str, Any]:
        # Strip line breaks. If a secret was created from a file, Kubernetes keeps the file's last line break. Docker
        # keeps the \r of Windows line breaks.
        stripped = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
        # Treat a blank value as not set, like an empty value.
        return {name: value for name, value in stripped.items() if value or values[name] == value}


class DomainSettings(SettingsGroup):
    """Base class for the variables of one domain.

    Raises
    ------
    TypeError
        The name of a secret does not match `SECRET_NAME`. A process that does not import the domain uses only the name
        of a variable to decide whether to mask its value.
    """

    @classmethod
    def __pydantic_init_subclass__(cls, **_: Any) -> None:
        """Check the names of secret fields."""
        for name, field in cls.model_fields.items():
            if field.annotation is SecretStr and not SECRET_NAME.search(name):
                raise TypeError(
                    f"{variable(name)} in {cls.__module__} is a secret, but its name does not show it; use a name that "
                    "contains token, password, secret, credential, signature, webhook or key"
                )


def read_settings(kind: type[Group]) -> Group:
    """Read a group of variables from the environment.

    Parameters
    ----------
    kind
        `Settings`, or the class of a domain.

    Raises
    ------
    SettingsError
        A variable has an invalid value; the message names the variable and the allowed values.
    """
    try:
        return kind()
    except ValidationError as error:
        lines = (
            (f"{variable(str(problem['loc'][0]))}: " if problem["loc"] else "")
            + problem["msg"].removeprefix("Value error, ")
            for problem in error.errors(include_url=False, include_context=False, include_input=False)
        )
        raise SettingsError("\n".join(lines)) from None


def unknown_variables(kinds: Iterable[type[SettingsGroup]]) -> dict[str, str | None]:
    """Return PLATFORM_ variables that no class declares, each with the most similar known name.

    Parameters
    ----------
    kinds
        `Settings` and the classes of all domains.
    """
    known = {variable(name) for kind in kinds for name in kind.model_fields}
    found = (name for name in os.environ if name.startswith(PREFIX) and name not in known)
    return {name: next(iter(difflib.get_close_matches(name, known, n=1)), None) for name in sorted(found)}
