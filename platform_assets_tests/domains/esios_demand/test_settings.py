"""The settings of the domain."""

from __future__ import annotations

import pytest

from platform_assets.domains.esios_demand.settings import EsiosSettings
from platform_assets.settings import SettingsError, read_settings


@pytest.mark.requirement("ESI-1")
@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("TOKEN", "s3cret of-mine", "PLATFORM_ESIOS_TOKEN: must be a token in ASCII without spaces or line breaks"),
        ("TOKEN", "contraseña", "PLATFORM_ESIOS_TOKEN: must be a token in ASCII"),
        ("BASE_URL", "api.esios.ree.es", "PLATFORM_ESIOS_BASE_URL: must be a URL that starts with http:// or https://"),
        ("INDICATOR", "0", "PLATFORM_ESIOS_INDICATOR: Input should be greater than or equal to 1"),
        ("REREAD_DAYS", "soon", "PLATFORM_ESIOS_REREAD_DAYS: Input should be a valid integer"),
    ],
)
def test_the_error_for_an_invalid_value_names_the_setting_and_hides_the_token(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(f"PLATFORM_ESIOS_{name}", value)
    with pytest.raises(SettingsError, match=said) as caught:
        read_settings(EsiosSettings)
    assert "s3cret" not in str(caught.value)
    assert "contra" not in str(caught.value)


def test_the_default_series_is_the_demand_forecast_of_the_peninsula(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PLATFORM_ESIOS_BASE_URL", "https://esios.test/")
    settings = read_settings(EsiosSettings)
    assert (settings.esios_indicator, settings.esios_geography) == (460, 8741)
    assert settings.esios_base_url == "https://esios.test"
