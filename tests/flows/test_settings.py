"""Settings: defaults, refusals that name the variable, and secrets that stay secret."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from flows.settings import Settings

PREFIX = "CUSTOMER_ANALYTICS_"


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    import os

    for name in list(os.environ):
        if name.startswith(PREFIX):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_defaults_are_a_laptop_without_accounts(tmp_path):
    settings = Settings()
    assert settings.target == "local"
    assert settings.home == tmp_path / ".local"
    assert settings.lake == str(tmp_path / ".local" / "lake")


def test_a_file_is_read_and_the_environment_wins(tmp_path, monkeypatch):
    (tmp_path / ".env").write_text(f"{PREFIX}DATABASE=FROM_FILE\n{PREFIX}SHOP_COUNTRY=NL\n")
    monkeypatch.setenv(f"{PREFIX}DATABASE", "FROM_ENVIRONMENT")
    settings = Settings()
    assert settings.database == "FROM_ENVIRONMENT"
    assert settings.shop_country == "NL"


@pytest.mark.parametrize(
    ("variables", "named"),
    [
        ({"TARGET": "snowflake"}, "CUSTOMER_ANALYTICS_SNOWFLAKE_ACCOUNT"),
        (
            {"TARGET": "snowflake", "SNOWFLAKE_ACCOUNT": "a", "SNOWFLAKE_USER": "u"},
            "CUSTOMER_ANALYTICS_SNOWFLAKE_PASSWORD",
        ),
        ({"TARGET": "redshift"}, "'local' or 'snowflake'"),
        ({"FISCAL_YEAR_START_MONTH": "13"}, "less than or equal to 12"),
        ({"CALENDAR_START": "yesterday"}, "calendar_start"),
        ({"SHOP_TIMEZONE": "Mars/Olympus"}, "shop_timezone"),
    ],
)
def test_a_wrong_setting_is_refused_by_name(monkeypatch, variables, named):
    for name, value in variables.items():
        monkeypatch.setenv(PREFIX + name, value)
    with pytest.raises(ValidationError, match=named):
        Settings()


def test_secrets_are_never_printed(monkeypatch):
    secrets = {
        "SNOWFLAKE_PASSWORD": "hunter-two",
        "SNOWFLAKE_PRIVATE_KEY_PASSPHRASE": "hunter-three",
        "AWS_SECRET_ACCESS_KEY": "hunter-four",
        "ALERT_URLS": '["json://user:hunter-five@host"]',
    }
    for name, value in secrets.items():
        monkeypatch.setenv(PREFIX + name, value)
    settings = Settings()
    for text in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert "hunter" not in text
    assert settings.snowflake_password is not None
    assert settings.snowflake_password.get_secret_value() == "hunter-two"
