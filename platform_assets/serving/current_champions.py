"""The current champion of a model, loaded once for a batch. The HTTP service uses `live_models.py` instead."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

from platform_assets.base.errors import NoChampion
from platform_assets.serving.live_models import how_to_get_a_champion, load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from platform_assets.serving.champion_source import ChampionSource
    from platform_assets.serving.live_models import LiveModel


class CurrentChampions:
    """Looks up and loads champions for batches.

    Parameters
    ----------
    open_source
        Function that opens a source of champions.
    """

    def __init__(self, open_source: Callable[[], ChampionSource]) -> None:
        self._open_source = open_source

    def load(self, model: str) -> LiveModel:
        """Load the champion of a model.

        Raises
        ------
        NoChampion
            The model has no champion.
        ArtefactError
            The champion's file cannot be loaded, or was altered.
        DatabaseError, LedgerError
            The source is unavailable.
        """
        with closing(self._open_source()) as source:
            approved = source.champion(model)
            if approved is None:
                raise NoChampion(model, how_to_get_a_champion(model))
            return load_model(source, approved)
