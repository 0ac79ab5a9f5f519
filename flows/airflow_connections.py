"""Settings out of Airflow's connections: credentials kept where Airflow keeps them, wherever that is (its database, the
environment, a secrets backend). They are read in the task that needs them, never while a DAG file is parsed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import SecretStr

from flows.settings import ConfigurationError, Settings


def with_airflow_connections(settings: Settings) -> Settings:
    """The settings, with what the Airflow connections they name have to say in place of their own.

    `snowflake_airflow_connection` is of type `snowflake`: login, password, and in its extra field account, role,
    warehouse, database, private_key_file. `aws_airflow_connection` is of type `aws`: login (access key id), password
    (secret access key), and in its extra field region_name, endpoint_url. What a connection leaves open stays as the
    settings have it.

    Raises:
        ConfigurationError: there is no such connection, or it lacks what nothing else supplies.
    """
    found: dict[str, Any] = {}
    if settings.snowflake_airflow_connection and settings.target == "snowflake":
        connection, extra = _connection(settings.snowflake_airflow_connection, "snowflake_airflow_connection")
        found |= {
            "snowflake_account": extra.get("account"),
            "snowflake_user": connection.login,
            "snowflake_password": _secret(connection.password if not extra.get("private_key_file") else None),
            "snowflake_private_key_path": Path(extra["private_key_file"]) if extra.get("private_key_file") else None,
            "snowflake_private_key_passphrase": _secret(connection.password if extra.get("private_key_file") else None),
            "snowflake_role": extra.get("role"),
            "snowflake_warehouse": extra.get("warehouse"),
            "database": extra.get("database"),
        }
        for name in ("snowflake_account", "snowflake_user"):
            if not (found[name] or getattr(settings, name)):
                raise ConfigurationError(
                    f"Airflow connection {settings.snowflake_airflow_connection} has no "
                    f"{'account in its extra field' if name == 'snowflake_account' else 'login'}; enter it, or set "
                    f"CUSTOMER_ANALYTICS_{name.upper()}"
                )
    if settings.aws_airflow_connection:
        connection, extra = _connection(settings.aws_airflow_connection, "aws_airflow_connection")
        found |= {
            "aws_access_key_id": connection.login,
            "aws_secret_access_key": _secret(connection.password),
            "aws_region": extra.get("region_name"),
            "aws_endpoint_url": extra.get("endpoint_url"),
        }
    known = {name: value for name, value in found.items() if value}
    return settings.model_copy(update=known) if known else settings


def _secret(value: str | None) -> SecretStr | None:
    return SecretStr(value) if value else None


def _connection(name: str, setting: str) -> tuple[Any, dict[str, Any]]:
    from airflow.sdk import Connection
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        connection = Connection.get(name)
    except AirflowNotFoundException:
        raise ConfigurationError(
            f"there is no Airflow connection {name!r}, which CUSTOMER_ANALYTICS_{setting.upper()} names; add it in "
            "Airflow, or unset the setting"
        ) from None
    return connection, connection.extra_dejson
