"""Settings out of Airflow's connections, read by Airflow itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from flows.airflow_connections import with_airflow_connections
from flows.connections import dbt_environment, open_lake
from flows.lake import S3Lake
from flows.settings import ConfigurationError, Settings


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path / "airflow"))

    def enter(name: str, **values: Any) -> None:
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", json.dumps(values))

    return enter


def snowflake(home: Path, **more: Any) -> Settings:
    return Settings(home=home, target="snowflake", snowflake_airflow_connection="shop_snowflake", **more)


def test_a_snowflake_connection_supplies_account_user_password_and_the_rest(connect: Any, tmp_path: Path) -> None:
    connect(
        "shop_snowflake",
        conn_type="snowflake",
        login="LOADER",
        password="secret word",
        extra={"account": "org-acct", "role": "PIPE", "warehouse": "WH", "database": "SHOP"},
    )
    found = with_airflow_connections(snowflake(tmp_path))
    assert (found.snowflake_account, found.snowflake_user, found.snowflake_role) == ("org-acct", "LOADER", "PIPE")
    assert (found.snowflake_warehouse, found.database) == ("WH", "SHOP")
    assert found.snowflake_password is not None
    assert found.snowflake_password.get_secret_value() == "secret word"
    assert "secret word" not in repr(found)
    environment = dbt_environment(snowflake(tmp_path))
    assert environment["CUSTOMER_ANALYTICS_SNOWFLAKE_ACCOUNT"] == "org-acct"
    assert environment["DBT_ENV_SECRET_CUSTOMER_ANALYTICS_SNOWFLAKE_PASSWORD"] == "secret word"
    assert environment["CUSTOMER_ANALYTICS_DATABASE"] == "SHOP"


def test_with_a_key_file_the_password_is_its_passphrase(connect: Any, tmp_path: Path) -> None:
    extra = {"account": "org-acct", "private_key_file": "/keys/loader.p8"}
    connect("shop_snowflake", conn_type="snowflake", login="LOADER", password="phrase", extra=extra)
    found = with_airflow_connections(snowflake(tmp_path))
    assert found.snowflake_private_key_path == Path("/keys/loader.p8")
    assert found.snowflake_private_key_passphrase is not None
    assert found.snowflake_private_key_passphrase.get_secret_value() == "phrase"
    assert found.snowflake_password is None
    assert found.snowflake_role == "CUSTOMER_ANALYTICS_PIPELINE"


def test_an_aws_connection_supplies_the_lake(connect: Any, tmp_path: Path) -> None:
    extra = {"region_name": "eu-north-1", "endpoint_url": "http://127.0.0.1:9"}
    connect("shop_aws", conn_type="aws", login="AKID", password="key of keys", extra=extra)
    settings = Settings(home=tmp_path, lake_url="s3://lake/x", aws_airflow_connection="shop_aws")
    lake = open_lake(settings)
    assert isinstance(lake, S3Lake)
    assert (lake.region, lake.endpoint_url, lake.access_key_id) == ("eu-north-1", "http://127.0.0.1:9", "AKID")
    assert lake.secret_access_key == "key of keys"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        pytest.param(None, "no Airflow connection 'shop_snowflake'", id="no such connection"),
        pytest.param({"conn_type": "snowflake", "login": "A"}, "has no account in its extra field", id="no account"),
        pytest.param({"conn_type": "snowflake", "extra": {"account": "a"}}, "has no login", id="no login"),
    ],
)
def test_what_is_missing_is_said(connect: Any, tmp_path: Path, values: dict[str, Any] | None, message: str) -> None:
    if values is not None:
        connect("shop_snowflake", **values)
    with pytest.raises(ConfigurationError, match=message):
        with_airflow_connections(snowflake(tmp_path))


def test_without_a_connection_airflow_is_not_asked(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    assert with_airflow_connections(settings) is settings
