"""Sources that domains declare, and their locations from the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from platform_assets.base.errors import SourceError
from platform_assets.base.scratch import OwnedFolder
from platform_assets.landing.archives import Unpacking
from platform_assets.landing.packed_files import SizeLimit
from platform_assets.landing.source_changes import content_digest
from platform_assets.landing.source_files import Source
from platform_assets.settings import Settings, read_settings, variable

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from platform_assets.landing.sample_data import Demo
    from platform_assets.settings import DomainSettings, Group


@dataclass(frozen=True)
class DeclaredSource:
    """A source of raw data.

    Attributes
    ----------
    settings
        The class of settings with the source's variable.
    setting
        The field of that class with the source's URI; the URI is empty if the variable is not set.
    demo
        Sample data, used if the variable is not set.
    is_archive
        Whether the file is a tar archive of base64 text; see `archives.py`.
    """

    settings: type[DomainSettings]
    setting: str
    demo: Demo
    is_archive: bool = False

    @property
    def variable(self) -> str:
        """The environment variable."""
        return variable(self.setting)

    @property
    def name(self) -> str:
        """The source's name, also used for its sample file."""
        return self.setting.removesuffix("_uri")


@dataclass(frozen=True)
class DeclaredApi:
    """An HTTP API from which a domain loads data.

    Attributes
    ----------
    name
        Display name of the API.
    describe
        Function that returns which server the settings select, and raises a `SourceError` if a setting is missing.
    """

    name: str
    describe: Callable[[Sources], str]


@dataclass(frozen=True)
class Sources:
    """Finds the location of each declared source in the settings.

    Parameters
    ----------
    settings
        The platform's settings.
    of_domains
        Settings of domains, if already read. Missing settings are read from the environment on first use.
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
        self._read[kind] = found  # type: ignore[index,assignment]  # `kind` is a domain's class
        return found

    def given(self, source: DeclaredSource) -> Source | None:
        """Return the source that the variable is set to, or None if the variable is not set."""
        uri: str = getattr(self.settings_of(source.settings), source.setting)
        return Source(source.variable, uri, unpacked=self.size_limit) if uri else None

    def find(self, source: DeclaredSource) -> Source:
        """Return the source that the variable is set to. If it is not set, return sample data if allowed.

        Raises
        ------
        SourceError
            The variable is not set, and sample data are not allowed.
        """
        if found := self.given(source):
            return found
        if self.settings.sources == "live":
            raise SourceError(
                f"{source.variable} is not set; set it to the source's path or URL, or set PLATFORM_SOURCES=demo for "
                "sample data"
            )
        rows = self.demo_rows(source)
        file = self.settings.home / "demo" / f"{source.name}_{rows}{source.demo.suffix}"
        if not file.exists():
            self._write(file, source.demo, rows)
        return Source(source.variable, str(file), demo=True, unpacked=self.size_limit)

    @property
    def size_limit(self) -> SizeLimit:
        """Maximum size of a file's unpacked content, and the name of the variable that sets it."""
        return SizeLimit(self.settings.unpacked_max_bytes, variable("unpacked_max_bytes"))

    def demo_rows(self, source: DeclaredSource) -> int:
        """Return the number of rows of a source's sample data: PLATFORM_DEMO_ROWS, within the source's limits."""
        wanted = max(self.settings.demo_rows, source.demo.fewest)
        return wanted if source.demo.most is None else min(wanted, source.demo.most)

    def unpacking(self, source: DeclaredSource) -> Unpacking | None:
        """Return an unpacker for a source's archive, or None if the source is not an archive."""
        if not source.is_archive:
            return None
        return Unpacking(self.settings.archive_max_bytes, variable("archive_max_bytes"))

    def content_digest(self, declared: DeclaredSource, source: Source) -> str:
        """Read a file and return the digest of its content; see `source_changes.content_digest`."""
        folder = OwnedFolder(self.settings.scratch, "content")
        try:
            return content_digest(source, folder.path, self.unpacking(declared))
        finally:
            folder.remove()

    def _write(self, file: Path, demo: Demo, rows: int) -> None:
        # Write to a scratch folder first, so that a killed process leaves no incomplete sample file.
        folder = OwnedFolder(self.settings.scratch, "demo")
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            demo.write(folder.path / file.name, rows).replace(file)
        finally:
            folder.remove()
