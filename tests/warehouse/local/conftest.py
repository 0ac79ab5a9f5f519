"""One local warehouse a test module, on a free port, stopped at its end."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import snowflake.connector

from warehouse.local.services import WAREHOUSE, ServiceStatus, connection_parameters, ensure_running, stop_service

Connect = Callable[..., snowflake.connector.SnowflakeConnection]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("home")
    yield folder
    stop_service(WAREHOUSE, folder)


@pytest.fixture(scope="module")
def warehouse_service(home: Path) -> ServiceStatus:
    return ensure_running(home)


@pytest.fixture(scope="module")
def connect(warehouse_service: ServiceStatus) -> Iterator[Connect]:
    """Opens connections to the module's warehouse; all are closed at its end."""
    opened: list[snowflake.connector.SnowflakeConnection] = []

    def open_connection(**more: Any) -> snowflake.connector.SnowflakeConnection:
        connection = snowflake.connector.connect(**connection_parameters(warehouse_service), **more)
        opened.append(connection)
        return connection

    first = open_connection()
    with first.cursor() as cursor:
        cursor.execute("create database if not exists analytics")
        cursor.execute("create schema if not exists analytics.ops")
        cursor.execute("create schema if not exists analytics.raw")
    yield open_connection
    for connection in opened:
        connection.close()


@pytest.fixture
def connection(connect: Connect) -> snowflake.connector.SnowflakeConnection:
    return connect(database="ANALYTICS", schema="OPS")


@pytest.fixture
def cursor(connection: snowflake.connector.SnowflakeConnection) -> Iterator[snowflake.connector.cursor.SnowflakeCursor]:
    with connection.cursor() as opened:
        yield opened
