"""The one place where the Prefect integrations are used: the warehouse, the lake and dbt, made from the settings.

Steps call these functions; they don't import Prefect themselves. Everything is imported when it is first needed, so
that importing a step or listing a DAG stays quick.
"""

from __future__ import annotations

import contextvars
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from flows.airflow_connections import with_airflow_connections
from flows.settings import PROJECT_ROOT, Settings
from warehouse.session import Session

if TYPE_CHECKING:
    from flows.lake import Lake

logger = logging.getLogger(__name__)

QUERY_TAG = "customer-analytics"
UNUSED_API = "http://127.0.0.1:9/api"


@contextmanager
def _without_container_worker() -> Iterator[None]:
    """While `prefect_snowflake` is imported, keep it from importing its worker for Snowpark containers.

    Nothing here uses that worker, and with all of `snowflake.core` behind it, it takes longer to import than everything
    else a task needs. An empty module stands in for it meanwhile; whoever wants the worker can still import it later.
    """
    name = "prefect_snowflake.experimental.workers.spcs"
    if name in sys.modules:
        yield
        return
    sys.modules[name] = ModuleType(name)
    try:
        yield
    finally:
        del sys.modules[name]


def open_session(settings: Settings) -> Session:
    """A session on the warehouse of the settings; the local one is started if it isn't running.

    Raises:
        warehouse.local.services.ServiceError: the local warehouse did not start.
        snowflake.connector.errors.Error: Snowflake refused the connection.
    """
    settings = with_airflow_connections(settings)
    with _without_container_worker():
        from prefect_snowflake import SnowflakeConnector, SnowflakeCredentials

    extra: dict[str, Any] = {}
    if settings.target == "local":
        from warehouse.local.services import connection_parameters, ensure_running

        parameters = connection_parameters(ensure_running(settings.home))
        credentials = SnowflakeCredentials(
            account=parameters.pop("account"), user=parameters.pop("user"), password=parameters.pop("password")
        )
        extra = {name: value for name, value in parameters.items() if name not in ("database", "schema", "warehouse")}
    elif settings.snowflake_block:
        connector = SnowflakeConnector.load(settings.snowflake_block)
        return Session(connector.get_connection(paramstyle="qmark", session_parameters={"QUERY_TAG": QUERY_TAG}))
    else:
        credentials = SnowflakeCredentials(
            account=settings.snowflake_account,
            user=settings.snowflake_user,
            password=settings.snowflake_password,
            private_key_path=settings.snowflake_private_key_path,
            private_key_passphrase=settings.snowflake_private_key_passphrase,
            role=settings.snowflake_role,
        )
        extra = {"session_parameters": {"QUERY_TAG": QUERY_TAG, "TIMEZONE": "UTC"}}
    connector = SnowflakeConnector(
        credentials=credentials, database=settings.database, warehouse=settings.snowflake_warehouse, schema="RAW"
    )
    for chatty in ("snowflake.connector", "prefect.SnowflakeConnector"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    return Session(connector.get_connection(paramstyle="qmark", **extra))


def open_lake(settings: Settings, url: str = "") -> Lake:
    """The lake of the settings, or the landing folder or bucket at `url`."""
    from flows.lake import open_lake as open_url

    settings = with_airflow_connections(settings)
    secret = settings.aws_secret_access_key
    return open_url(
        url or settings.lake,
        endpoint_url=settings.aws_endpoint_url,
        region=settings.aws_region,
        access_key_id=settings.aws_access_key_id,
        secret_access_key=secret.get_secret_value() if secret else None,
        block=settings.s3_block,
    )


def open_kinesis_client(settings: Settings) -> Any:  # noqa: ANN401
    """A boto3 client for Kinesis; the local one is started if the settings say `embedded` and it isn't running.

    It tries each call once: who calls decides what to try again. Several threads may share it.

    Raises:
        warehouse.local.services.ServiceError: the local service did not start.
        ValueError: the block named by `s3_block` holds no AWS credentials.
    """
    from botocore.config import Config
    from prefect_aws import AwsCredentials, S3Bucket

    settings = with_airflow_connections(settings)
    endpoint_url = settings.aws_endpoint_url
    if settings.kinesis == "embedded":
        from warehouse.local.services import AWS, ensure_running

        service = ensure_running(settings.home, AWS)
        endpoint_url = f"http://{service.host}:{service.port}"
        credentials = AwsCredentials(
            aws_access_key_id="local", aws_secret_access_key=SecretStr("local"), region_name=settings.aws_region
        )
    elif settings.s3_block:
        saved: Any = S3Bucket.load(settings.s3_block, _sync=True)  # type: ignore[call-arg]
        if not isinstance(saved.credentials, AwsCredentials):
            raise ValueError(
                f"the Prefect block {settings.s3_block!r} (CUSTOMER_ANALYTICS_S3_BLOCK) holds "
                f"{type(saved.credentials).__name__}, which Kinesis can't use; give it AwsCredentials, or set "
                "CUSTOMER_ANALYTICS_AWS_ACCESS_KEY_ID and _AWS_SECRET_ACCESS_KEY instead of the block"
            )
        credentials = saved.credentials
    else:
        credentials = AwsCredentials(
            aws_access_key_id=settings.aws_access_key_id,
            aws_secret_access_key=settings.aws_secret_access_key,
            region_name=settings.aws_region,
        )
    config = Config(
        connect_timeout=5,
        read_timeout=30,
        max_pool_connections=16,
        retries={"mode": "standard", "total_max_attempts": 1},
    )
    session = credentials.get_boto3_session()
    return session.client(
        "kinesis",
        endpoint_url=endpoint_url,
        region_name=credentials.region_name or settings.aws_region,
        config=config,
    )


def dbt_environment(settings: Settings) -> dict[str, str]:
    """The environment variables that `dbt/profiles.yml` and `dbt/dbt_project.yml` read."""
    settings = with_airflow_connections(settings)
    values = {
        "CUSTOMER_ANALYTICS_TARGET": settings.target,
        "CUSTOMER_ANALYTICS_DATABASE": settings.database.upper(),
        "DBT_TARGET_PATH": str(settings.home / "dbt" / "target"),
        "DBT_LOG_PATH": str(settings.home / "logs" / "dbt"),
        "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    }
    if settings.target == "local":
        from warehouse.local.services import ensure_running

        service = ensure_running(settings.home)
        values |= {
            "CUSTOMER_ANALYTICS_LOCAL_HOST": str(service.host),
            "CUSTOMER_ANALYTICS_LOCAL_PORT": str(service.port),
        }
        return values
    values |= {
        "CUSTOMER_ANALYTICS_SNOWFLAKE_ACCOUNT": settings.snowflake_account,
        "CUSTOMER_ANALYTICS_SNOWFLAKE_USER": settings.snowflake_user,
        "CUSTOMER_ANALYTICS_SNOWFLAKE_ROLE": settings.snowflake_role,
        "CUSTOMER_ANALYTICS_SNOWFLAKE_WAREHOUSE": settings.snowflake_warehouse,
    }
    if settings.snowflake_block:
        values |= _credentials_of_block(settings.snowflake_block)
    if settings.snowflake_private_key_path:
        values["CUSTOMER_ANALYTICS_SNOWFLAKE_PRIVATE_KEY_PATH"] = str(settings.snowflake_private_key_path)
    if settings.snowflake_password:
        values["DBT_ENV_SECRET_CUSTOMER_ANALYTICS_SNOWFLAKE_PASSWORD"] = settings.snowflake_password.get_secret_value()
    if settings.snowflake_private_key_passphrase:
        values["DBT_ENV_SECRET_CUSTOMER_ANALYTICS_SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"] = (
            settings.snowflake_private_key_passphrase.get_secret_value()
        )
    return values


def _credentials_of_block(name: str) -> dict[str, str]:
    with _without_container_worker():
        from prefect_snowflake import SnowflakeConnector

    connector = SnowflakeConnector.load(name)
    credentials = connector.credentials
    values = {
        "CUSTOMER_ANALYTICS_SNOWFLAKE_ACCOUNT": credentials.account,
        "CUSTOMER_ANALYTICS_SNOWFLAKE_USER": credentials.user or "",
        "CUSTOMER_ANALYTICS_SNOWFLAKE_ROLE": credentials.role or "",
        "CUSTOMER_ANALYTICS_SNOWFLAKE_WAREHOUSE": connector.warehouse,
        "CUSTOMER_ANALYTICS_DATABASE": connector.database,
    }
    if credentials.private_key_path:
        values["CUSTOMER_ANALYTICS_SNOWFLAKE_PRIVATE_KEY_PATH"] = str(credentials.private_key_path)
    if credentials.password:
        values["DBT_ENV_SECRET_CUSTOMER_ANALYTICS_SNOWFLAKE_PASSWORD"] = credentials.password.get_secret_value()
    if credentials.private_key_passphrase:
        values["DBT_ENV_SECRET_CUSTOMER_ANALYTICS_SNOWFLAKE_PRIVATE_KEY_PASSPHRASE"] = (
            credentials.private_key_passphrase.get_secret_value()
        )
    return values


class DbtError(RuntimeError):
    """dbt could not run, or nodes failed that must not; the message names them."""


@cache
def _let_parses_outlive_ports() -> None:
    """Let dbt's parse of the project hold when the local warehouse comes back on another port.

    dbt parses everything anew, which takes longer than most runs, when what it calls the connection's description
    changes. No model can depend on a port, so it is left out of that description; connecting doesn't read it there.
    """
    from dbt.adapters.snowflake.connections import SnowflakeCredentials

    described = SnowflakeCredentials._connection_keys

    def without_port(self: SnowflakeCredentials) -> tuple[str, ...]:
        return tuple(key for key in described(self) if key != "port")

    SnowflakeCredentials._connection_keys = without_port


def invoke_dbt(settings: Settings, arguments: list[str], variables: Mapping[str, Any]) -> Any:  # noqa: ANN401
    """Run one dbt command through prefect-dbt's runner.

    Args:
        settings: which warehouse, and the home folder for dbt's target and logs.
        arguments: the command, e.g. `["run", "--select", "staging"]`.
        variables: dbt variables.

    Returns:
        dbt's own `RunExecutionResult`, whatever the states of its nodes.

    Raises:
        DbtError: dbt could not run the command at all.
    """
    import json

    from dbt_common.events.base_types import EventLevel
    from prefect.client.orchestration import PrefectClient
    from prefect_dbt import PrefectDbtRunner, PrefectDbtSettings

    class ProfileOfProject(PrefectDbtSettings):
        """Our profiles.yml reads the environment only; Prefect's templating would ask an API server for blocks."""

        @contextmanager
        def resolve_profiles_yml(self) -> Iterator[str]:
            yield str(self.profiles_dir)

    project = PROJECT_ROOT / "dbt"
    os.environ.update(dbt_environment(settings))
    _let_parses_outlive_ports()
    runner = PrefectDbtRunner(
        settings=ProfileOfProject(
            project_dir=project,
            profiles_dir=project,
            target_path=settings.home / "dbt" / "target",
            log_level=EventLevel.INFO,
        ),
        raise_on_failure=False,
        # The runner never asks it anything here, but would start a throw-away API server to have one.
        client=PrefectClient(UNUSED_API),
    )
    command = [*arguments, "--vars", json.dumps(dict(variables)), "--quiet", "--no-use-colors"]
    try:
        # In a context of its own the runner sees no flow run, so a layer is one task in both orchestrators, not one
        # more task a node in Prefect alone.
        result = contextvars.Context().run(runner.invoke, command)
    except Exception as error:
        raise DbtError(
            f"dbt {' '.join(arguments)}: {error}; its log is {settings.home / 'logs' / 'dbt' / 'dbt.log'}"
        ) from error
    return result.result
