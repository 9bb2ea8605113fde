"""The landing zone of label files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from platform_assets.domains.label_files.settings import LabelFilesSettings
from platform_assets.landing.landing_zone import DeclaredZone

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def no_samples(_: Path) -> Iterable[Path]:
    """Write no sample file, because sample labels would refer to predictions that do not exist."""
    return ()


LABELS = DeclaredZone(
    name="labels",
    settings=LabelFilesSettings,
    uri="labels_landing_uri",
    settle_seconds="labels_settle_seconds",
    columns=("model", "label", "observed_at"),
    optional=("request_id", "place", "subject", "at"),
    demo=no_samples,
)
