"""The one settings object: read once from the environment or a file, then passed on."""

from __future__ import annotations

from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""The checkout: where `dbt/`, `warehouse/ddl/` and `prefect.yaml` are found."""


class ConfigurationError(ValueError):
    """A setting is missing or contradicts another; the message names the setting and the next step."""


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


class Settings(BaseSettings):
    """Everything that differs between a laptop and production.

    Read from variables that start with `CUSTOMER_ANALYTICS_` and from a `.env` file in the working folder (the
    environment wins). Secrets are `SecretStr`: printing the object shows stars.
    """

    model_config = SettingsConfigDict(
        env_prefix="CUSTOMER_ANALYTICS_",
        env_file=".env",
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
    )

    home: Annotated[Path, AfterValidator(_absolute)] = Path(".local")
    """Folder of all state: local warehouse, lake, logs, reports, service files."""

    target: Literal["local", "snowflake"] = "local"
    """Which warehouse: `local` (started on demand on this machine) or `snowflake`."""

    lake_url: str = ""
    """Where we write staged and quarantined files: a folder or `s3://bucket/prefix`. Empty: `<home>/lake`."""

    sources_dir: Annotated[Path, AfterValidator(_absolute)] = PROJECT_ROOT / "warehouse" / "sources"
    """Folder of the source mappings (one YAML file a source)."""

    # Snowflake -------------------------------------------------------------------------------------------------------
    snowflake_account: str = ""
    snowflake_user: str = ""
    snowflake_password: SecretStr | None = None
    snowflake_private_key_path: Path | None = None
    snowflake_private_key_passphrase: SecretStr | None = None
    snowflake_role: str = "CUSTOMER_ANALYTICS_PIPELINE"
    snowflake_warehouse: str = "CUSTOMER_ANALYTICS"
    snowflake_storage_integration: str = ""
    """Name of the storage integration by which Snowflake reads an `s3://` lake. Empty: files are PUT to an internal
    stage."""
    snowflake_block: str = ""
    """Name of a saved Prefect `SnowflakeConnector` block to use instead of the fields above."""
    snowflake_airflow_connection: str = ""
    """Id of an Airflow connection of type `snowflake` that supplies the fields above to tasks run by Airflow."""
    database: str = "ANALYTICS"

    # S3 --------------------------------------------------------------------------------------------------------------
    aws_endpoint_url: str | None = None
    """Endpoint of an S3-compatible store (moto in tests); empty for AWS itself."""
    aws_region: str = "eu-west-1"
    aws_access_key_id: str | None = None
    aws_secret_access_key: SecretStr | None = None
    s3_block: str = ""
    """Name of a saved Prefect `S3Bucket` block to take credentials from instead of the fields above."""
    aws_airflow_connection: str = ""
    """Id of an Airflow connection of type `aws` that supplies the fields above to tasks run by Airflow."""

    # Business --------------------------------------------------------------------------------------------------------
    shop_timezone: str = "Europe/London"
    """The timezone of business dates (`_date` columns)."""
    shop_country: str = "GB"
    """ISO 3166 code whose public holidays DIM_DATE carries."""
    reporting_currency: Annotated[str, Field(pattern="^[A-Z]{3}$")] = "GBP"
    """ISO 4217 code of the currency that all orders are shown in beside their own."""
    exchange_rate_max_age_days: Annotated[int, Field(ge=0)] = 7
    """The last known exchange rate converts an order for so many days; then the rate is missing."""
    fiscal_year_start_month: Annotated[int, Field(ge=1, le=12)] = 4
    calendar_start: date = date(2009, 1, 1)
    """First day of DIM_DATE; orders before it have no date row, so let it be early enough."""
    calendar_end: date = date(2035, 12, 31)

    # Ingestion -------------------------------------------------------------------------------------------------------
    file_group_bytes: Annotated[int, Field(gt=0)] = 8 * 1024 * 1024
    """Files are staged in groups of about this many (compressed) bytes, one orchestrator task each."""
    file_group_minimum: Annotated[int, Field(ge=1)] = 4
    """Files are spread over at least this many groups, so that small deliveries use several workers too."""
    load_method: Literal["copy", "snowpipe"] = "copy"
    """How staged files get into RAW: by COPY, a transaction a table, or by a pipe, which loads each file on its own."""
    snowpipe_timeout_seconds: Annotated[float, Field(gt=0)] = 600.0
    """How long to wait for a pipe while it finishes no file; what waits then is left to the next run."""
    snowpipe_notification_seconds: Annotated[float, Field(ge=0)] = 60.0
    """How long a pipe over an `s3://` lake may learn of files from the bucket's notifications before it is told."""
    snowpipe_sns_topic: str = ""
    """ARN of the SNS topic that carries the bucket's notifications; empty: they go to Snowflake's own queue."""
    read_block_bytes: Annotated[int, Field(ge=64 * 1024)] = 32 * 1024 * 1024
    """A file is read in blocks of this many decompressed bytes; bounds a step's memory."""

    # Streams ---------------------------------------------------------------------------------------------------------
    kafka_bootstrap_servers: str = ""
    """Comma-separated `host:port`. Empty: the embedded broker of this home, started on demand."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr | None = None
    kafka_ssl_ca_file: Path | None = None
    kafka_ssl_certificate_file: Path | None = None
    kafka_ssl_key_file: Path | None = None
    kafka_ssl_key_password: SecretStr | None = None
    kafka_compression: Literal["", "gzip"] = "gzip"
    """How published records are packed (every codec of Kafka's is read). Packing is the faster way, too: kafka-python
    computes the checksum of what it sends byte by byte."""
    kafka_connect_seconds: Annotated[float, Field(gt=0)] = 15.0
    """How long to wait for a first answer of `kafka_bootstrap_servers`."""
    kafka_patience_seconds: Annotated[float, Field(gt=0)] = 60.0
    """A cluster that has not answered for so long is an error; shorter troubles are waited out."""
    kafka_session_seconds: Annotated[float, Field(gt=0)] = 10.0
    """A consumer that was killed loses its partitions to the others after so long. Brokers want 6 to 1800 seconds."""
    kafka_poll_interval_seconds: Annotated[float, Field(gt=0)] = 300.0
    """A consumer that lives but hangs (one micro-batch takes longer than this) loses its partitions."""
    kafka_fetch_bytes: Annotated[int, Field(ge=1024)] = 8 * 1024 * 1024
    """How much is fetched ahead of what has been read, a broker; bounds a consumer's memory."""
    kinesis: Literal["embedded", "aws"] = "embedded"
    """`embedded`: the local Kinesis of this home, started on demand. `aws`: Kinesis at `aws_endpoint_url` or AWS."""
    kinesis_patience_seconds: Annotated[float, Field(gt=0)] = 60.0
    """A stream that failed or throttled every call for so long is an error; shorter troubles are waited out."""
    stream_group: str = "customer-analytics"
    """Consumers of one group share a topic's partitions."""
    stream_batch_events: Annotated[int, Field(ge=1)] = 50_000
    """A micro-batch closes when it has so many records, …"""
    stream_batch_bytes: Annotated[int, Field(ge=1)] = 32 * 1024 * 1024
    """… or so many bytes of them, …"""
    stream_batch_seconds: Annotated[float, Field(gt=0)] = 2.0
    """… or when its first record has waited so long."""
    stream_record_bytes: Annotated[int, Field(ge=1)] = 256 * 1024
    """A record that is larger becomes a dead letter."""
    stream_lag_seconds: Annotated[float, Field(gt=0)] = 300.0
    """A consumer whose newest loaded record is so much older than the newest in its partition is an incident."""

    # Quality ---------------------------------------------------------------------------------------------------------
    use_alibi_detect: bool = True
    """Whether detectors may use alibi-detect (Business Source Licence; see README). Without it those layers are off."""
    anomaly_budget_per_100k: Annotated[float, Field(gt=0)] = 100.0
    """Clean rows in 100,000 that detection may flag."""
    detector_history_rows: Annotated[int, Field(ge=1000)] = 2_000_000
    """Detectors learn from at most this many order lines, the latest ones; bounds their memory."""
    detector_fits: Annotated[int, Field(ge=1)] = 2
    """A first load of many months is judged in at most this many parts, each by what came before it (the first, which
    has nothing before it, among itself)."""
    series_false_alarms_a_year: Annotated[float, Field(gt=0, le=180)] = 1.0
    """Days of a year that a daily series of a whole source may find strange by chance; of a part of one, half of it."""
    series_history_days: Annotated[int, Field(ge=224)] = 400
    """Days before the first judged one that daily series look at."""
    series_alert_days: Annotated[int, Field(ge=0)] = 31
    """Strange values of days that were so long ago when they came (a first load) are notes. A missing day is not."""
    alert_findings_shown: Annotated[int, Field(ge=1)] = 10
    """Incidents written out in one alert; the rest is counted."""
    alert_messages_per_hour: Annotated[int, Field(ge=1)] = 4
    """A channel gets at most so many messages within an hour; what is over is joined into its next one."""
    alert_repeat_hours: Annotated[float, Field(gt=0)] = 168.0
    """An open incident that is seen again is told again after so long; sooner only where it has become worse."""
    alert_attempts: Annotated[int, Field(ge=1)] = 3
    """A channel that does not take a message is tried so often in one run; then the message waits for the next run."""
    alert_retry_seconds: Annotated[float, Field(ge=0)] = 1.0
    """Wait before the second attempt; twice as long before each further one."""
    alert_urls: list[SecretStr] = []
    """Apprise URLs that alerts go to, as a JSON list. Empty: alerts are only logged."""

    @field_validator("shop_timezone")
    @classmethod
    def _known_timezone(cls, value: str) -> str:
        try:
            ZoneInfo(value)
        except (KeyError, ValueError, OSError):
            raise ValueError("shop_timezone: expected an IANA timezone, e.g. Europe/London") from None
        return value

    @model_validator(mode="after")
    def _complete(self) -> Settings:
        if self.target == "snowflake" and not self.snowflake_block and not self.snowflake_airflow_connection:
            missing = [name for name in ("snowflake_account", "snowflake_user") if not getattr(self, name)]
            if missing:
                variables = ", ".join(f"CUSTOMER_ANALYTICS_{name.upper()}" for name in missing)
                raise ConfigurationError(
                    f"target is snowflake, but {variables} is not set; set it, or use target local"
                )
            if self.snowflake_password is None and self.snowflake_private_key_path is None:
                raise ConfigurationError(
                    "target is snowflake, but neither CUSTOMER_ANALYTICS_SNOWFLAKE_PASSWORD nor "
                    "CUSTOMER_ANALYTICS_SNOWFLAKE_PRIVATE_KEY_PATH is set; set one of them"
                )
        return self

    @property
    def local_services(self) -> list[str]:
        """Names of the services of this machine that these settings need (see `warehouse.local.services`)."""
        needed = {
            "warehouse": self.target == "local",
            "broker": not self.kafka_bootstrap_servers,
            "aws": self.kinesis == "embedded",
        }
        return [name for name, is_needed in needed.items() if is_needed]

    @property
    def lake(self) -> str:
        """The lake's URL, with the default filled in."""
        return self.lake_url or str(self.home / "lake")


@lru_cache(maxsize=1)
def load_settings() -> Settings:
    """The settings of this process, read once.

    Raises:
        ConfigurationError: a setting is missing or contradicts another.
        pydantic.ValidationError: a value has the wrong type.
    """
    return Settings()
