"""Sources as domains declare them, and as the settings answer where their data come from."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.base.scratch import OwnedFolder
from platform_assets.landing.source_files import Source
from platform_assets.settings import Settings, read_settings, variable

if TYPE_CHECKING:
    from pathlib import Path

    from platform_assets.landing.sample_data import Demo
    from platform_assets.settings import DomainSettings, Group


@dataclass(frozen=True)
class DeclaredSource:
    """A source of raw data.

    Attributes
    ----------
    settings
        The class of settings that names it.
    setting
        The field of that class: the source's URI, empty where it is not set.
    demo
        The sample data that stand in for it.
    """

    settings: type[DomainSettings]
    setting: str
    demo: Demo

    @property
    def variable(self) -> str:
        """The environment variable."""
        return variable(self.setting)

    @property
    def name(self) -> str:
        """The source's name, as its sample files are called."""
        return self.setting.removesuffix("_uri")


@dataclass(frozen=True)
class Sources:
    """The settings' answer to where raw data come from.

    Parameters
    ----------
    settings
        The platform's.
    of_domains
        Settings of domains that are known already; others are read from the environment when they are asked for.
    """

    settings: Settings
    of_domains: tuple[DomainSettings, ...] = ()
    _read: dict[type[DomainSettings], DomainSettings] = field(default_factory=dict, repr=False, compare=False)

    def settings_of(self, kind: type[Group]) -> Group:
        """Return a domain's settings, read once."""
        for one in (*self.of_domains, *self._read.values()):
            if isinstance(one, kind):
                return one
        found = read_settings(kind)
        self._read[kind] = found  # type: ignore[index,assignment]  # a domain's class, as all that are asked for
        return found

    def given(self, source: DeclaredSource) -> Source | None:
        """Return a source by its own setting; None where that is not set."""
        uri: str = getattr(self.settings_of(source.settings), source.setting)
        return Source(source.variable, uri) if uri else None

    def find(self, source: DeclaredSource) -> Source:
        """Return a source by its own setting, which always wins, or its sample data where those are allowed.

        Raises
        ------
        SourceError
            Neither a setting nor sample data; names the setting.
        """
        if found := self.given(source):
            return found
        if self.settings.sources == "live":
            raise SourceError(
                f"{source.variable} is not set; name the source there, or set PLATFORM_SOURCES=demo for sample data"
            )
        file = self.settings.home / "demo" / f"{source.name}_{self.settings.demo_rows}{source.demo.suffix}"
        if not file.exists():
            self._write(file, source.demo)
        return Source(source.variable, str(file), demo=True)

    def _write(self, file: Path, demo: Demo) -> None:
        # Not in its place: a process that is killed half-way must not leave what the next one takes for the file.
        folder = OwnedFolder(self.settings.home / "scratch", "demo")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            demo.write(folder.path / file.name, self.settings.demo_rows).replace(file)
        finally:
            folder.remove()
