"""A champion whose forecast is the demand of the same hour one week earlier, plus a constant."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from platform_assets.base.errors import NoChampion
from platform_assets.serving.current_champions import CurrentChampions

if TYPE_CHECKING:
    from platform_assets.base.frames import Frame


class Steady(CurrentChampions):
    """A source of champions that returns itself as the champion.

    Parameters
    ----------
    version
        Version of the champion; 0 if there is no champion.
    plus
        Constant that is added to the demand of one week earlier, in MW.
    width
        Half of the width of the prediction intervals, in MW.
    """

    def __init__(self, version: int = 3, plus: float = 0.0, width: float = 1_000.0) -> None:
        self.version, self.approval_id, self.plus, self.width = version, 7, plus, width

    def load(self, model: str) -> Any:
        """Return the champion."""
        if not self.version:
            raise NoChampion(model, f"{model} has no champion")
        return self

    def predict(self, rows: Frame) -> dict[str, Any]:
        """Return the forecasts and the bounds of their intervals, each of shape (n,)."""
        value = rows["lag_7d_mw"].to_numpy() + self.plus
        return {"value": value, "lower": value - self.width, "upper": value + self.width}
