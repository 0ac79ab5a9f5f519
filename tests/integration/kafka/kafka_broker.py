"""A real Apache Kafka broker on this machine: one KRaft process, jars fetched by Maven, all its state in one folder.

    with KafkaBroker(folder) as broker:
        broker.create_topic("clicks", partitions=4)
        settings = Settings(kafka_bootstrap_servers=broker.bootstrap_servers)

Needs `java` (17 or later) and `mvn` on the PATH (`missing_programs`). Nothing here depends on pytest.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import uuid4

import psutil
from confluent_kafka import KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewPartitions, NewTopic
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

HOST = "127.0.0.1"
USER = "shop"
PASSWORD = "only-for-tests"
"""Credentials of the SASL listener, by PLAIN and by SCRAM."""

MAVEN_TIMEOUT_SECONDS = 300
FORMAT_TIMEOUT_SECONDS = 60
START_TIMEOUT_SECONDS = 60
STOP_TIMEOUT_SECONDS = 30
REQUEST_TIMEOUT_SECONDS = 15
LOG_LINES_SHOWN = 40

PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},SASL_PLAINTEXT://{host}:{sasl_port},SSL://{host}:{ssl_port},\
CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port},SASL_PLAINTEXT://{host}:{sasl_port},SSL://{host}:{ssl_port}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT,SSL:SSL,CONTROLLER:PLAINTEXT
ssl.client.auth=required
ssl.keystore.type=PEM
ssl.keystore.certificate.chain={certificate}
ssl.keystore.key={key}
ssl.truststore.type=PEM
ssl.truststore.certificates={certificate}
inter.broker.listener.name=PLAINTEXT
sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256
listener.name.sasl_plaintext.plain.sasl.jaas.config=\
org.apache.kafka.common.security.plain.PlainLoginModule required user_{user}="{password}";
listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=\
org.apache.kafka.common.security.scram.ScramLoginModule required;
log.dirs={data}
auto.create.topics.enable=false
num.io.threads=2
num.network.threads=2
num.recovery.threads.per.data.dir=2
log.cleaner.dedupe.buffer.size=2100000
log.cleaner.threads=1
offsets.topic.num.partitions=1
offsets.topic.replication.factor=1
transaction.state.log.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=400
group.initial.rebalance.delay.ms=0
group.min.session.timeout.ms=500
log.retention.check.interval.ms=500
log.initial.task.delay.ms=500
log.segment.delete.delay.ms=500
"""
"""A broker that starts fast (after a kill, too: it waits for its own former session to end), expires records within a
second of being allowed to, and lets tests use short sessions."""


class KafkaBrokerError(RuntimeError):
    """The broker could not be fetched, started, stopped or told something; the message carries the end of its log."""


def missing_programs() -> list[str]:
    """What this machine lacks to run a broker: `java`, `mvn`, both or nothing."""
    return [name for name in ("java", "mvn") if shutil.which(name) is None]


class KafkaBroker:
    """One broker, stopped at first.

    Attributes:
        bootstrap_servers: `host:port` without authentication; the same after every start.
        sasl_bootstrap_servers: `host:port` of the listener that wants USER and PASSWORD by PLAIN or SCRAM-SHA-256.
        ssl_bootstrap_servers: `host:port` of the listener that speaks TLS and wants a certificate of its clients, too.
        certificate_file: PEM; the broker's certificate, which it takes from clients as well, and its own authority.
        key_file: PEM; its key.
        pid: its process while it runs, else None.
    """

    def __init__(self, folder: Path, *, heap_megabytes: int = 384, quick_start: bool = True) -> None:
        """
        Args:
            folder: made when it is not there; configuration, log and data are below it.
            heap_megabytes: of the Java process.
            quick_start: compile little, which starts in half the time and is slower from then on; not for benchmarks.
        """
        self._folder = folder
        self._heap_megabytes = heap_megabytes
        self._quick_start = quick_start
        self._process: subprocess.Popen[bytes] | None = None
        self._class_path: str | None = None
        self._port, self._sasl_port, self._ssl_port, self._controller_port = _free_ports(4)
        self.bootstrap_servers = f"{HOST}:{self._port}"
        self.sasl_bootstrap_servers = f"{HOST}:{self._sasl_port}"
        self.ssl_bootstrap_servers = f"{HOST}:{self._ssl_port}"
        self.certificate_file = folder / "certificate.pem"
        self.key_file = folder / "key.pem"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()

    # Its process --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start it, format its storage the first time, and wait until it answers.

        On Linux it ends with the thread that called this, so that a test run that is killed leaves no broker behind.

        Raises:
            KafkaBrokerError: it ended or did not answer in time.
        """
        if self.pid is not None:
            return
        if self._class_path is None:
            self._class_path = _class_path(self._folder)
        self._configure()
        if not (self._folder / "data" / "meta.properties").exists():
            self._format()
        with self._log_file.open("ab") as log:
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._properties_file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=_end_with_parent,
            )
        self._wait_until_ready()

    def stop(self) -> None:
        """End it in order (SIGTERM), as an operator would; killed when that takes too long."""
        self._end(signal.SIGTERM, STOP_TIMEOUT_SECONDS)

    def kill(self) -> None:
        """End it at once (SIGKILL), as a power cut would. What it had acknowledged is there after the next start."""
        self._end(signal.SIGKILL, STOP_TIMEOUT_SECONDS)

    def freeze(self) -> None:
        """Let it hang: connections stay open, nothing is answered."""
        self._running().send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on after `freeze`."""
        self._running().send_signal(signal.SIGCONT)

    @property
    def is_frozen(self) -> bool:
        return self.pid is not None and psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    # Its topics ---------------------------------------------------------------------------------------------------

    def create_topic(self, name: str, *, partitions: int = 1, settings: Mapping[str, str] | None = None) -> None:
        """Create a topic and wait until it can be written.

        Args:
            name: must not exist.
            partitions: how many.
            settings: of the topic, e.g. `{"retention.ms": "1000", "segment.bytes": "16384"}`.
        """
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=dict(settings or {}))
        self._ask(lambda admin: admin.create_topics([topic], operation_timeout=REQUEST_TIMEOUT_SECONDS))
        self._wait_for_partitions(name, partitions)

    def delete_topic(self, name: str) -> None:
        """Delete a topic and wait until it is unknown."""
        self._ask(lambda admin: admin.delete_topics([name], operation_timeout=REQUEST_TIMEOUT_SECONDS))
        self._wait_for_partitions(name, 0)

    def add_partitions(self, name: str, *, total: int) -> None:
        """Let a topic have so many partitions and wait until they can be written."""
        self._ask(lambda admin: admin.create_partitions([NewPartitions(name, total)]))
        self._wait_for_partitions(name, total)

    def delete_records(self, name: str, *, partition: int, before: int) -> None:
        """Delete the records of a partition whose offset is smaller, as expired retention does, at once."""
        self._ask(lambda admin: admin.delete_records([TopicPartition(name, partition, before)]))

    def configure_topic(self, name: str, settings: Mapping[str, str]) -> None:
        """Change settings of a topic."""
        entries = [
            ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in settings.items()
        ]
        resource = ConfigResource(ConfigResource.Type.TOPIC, name, incremental_configs=entries)
        self._ask(lambda admin: admin.incremental_alter_configs([resource]))

    def partitions(self, name: str) -> int:
        """How many partitions of a topic can be written; 0: there is no such topic."""
        metadata = self._admin().list_topics(timeout=REQUEST_TIMEOUT_SECONDS).topics.get(name)
        if metadata is None or metadata.error is not None:
            return 0
        return sum(partition.leader != -1 for partition in metadata.partitions.values())

    def log_end(self) -> str:
        """The last lines of its log."""
        lines = self._log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "\n".join(lines)

    # ----------------------------------------------------------------------------------------------------------------

    @property
    def _log_file(self) -> Path:
        return self._folder / "kafka.log"

    @property
    def _properties_file(self) -> Path:
        return self._folder / "server.properties"

    def _configure(self) -> None:
        if not self.key_file.exists():
            _write_certificate(self.certificate_file, self.key_file)
        self._properties_file.write_text(
            PROPERTIES.format(
                host=HOST,
                port=self._port,
                sasl_port=self._sasl_port,
                ssl_port=self._ssl_port,
                controller_port=self._controller_port,
                certificate=_one_line(self.certificate_file),
                key=_one_line(self.key_file),
                user=USER,
                password=PASSWORD,
                data=self._folder / "data",
            ),
            encoding="utf-8",
        )

    def _format(self) -> None:
        scram = f"SCRAM-SHA-256=[name={USER},password={PASSWORD}]"
        arguments = ["format", "--cluster-id", str(uuid4()), "--config", str(self._properties_file)]
        with self._log_file.open("ab") as log:
            subprocess.run(
                self._java("kafka.tools.StorageTool", *arguments, "--add-scram", scram),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=FORMAT_TIMEOUT_SECONDS,
                check=False,
            )
        if not (self._folder / "data" / "meta.properties").exists():
            raise KafkaBrokerError(f"The storage of Kafka could not be formatted:\n{self.log_end()}")

    def _java(self, main_class: str, *arguments: str) -> list[str]:
        quick = ["-XX:TieredStopAtLevel=1"] if self._quick_start else []
        return [
            "java",
            f"-Xmx{self._heap_megabytes}m",
            "-XX:+UseSerialGC",
            *quick,
            "-Dlog4j2.level=INFO",
            "-cp",
            str(self._class_path),
            main_class,
            *arguments,
        ]

    def _wait_until_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_SECONDS
        while True:
            if self._process is None or self._process.poll() is not None:
                raise KafkaBrokerError(f"Kafka ended before it was ready. Its log ends:\n{self.log_end()}")
            if _listens(self._port) and _listens(self._sasl_port) and self._answers():
                return
            if time.monotonic() > deadline:
                self.kill()
                raise KafkaBrokerError(
                    f"Kafka was not ready within {START_TIMEOUT_SECONDS} seconds. Its log ends:\n{self.log_end()}"
                )
            time.sleep(0.1)

    def _answers(self) -> bool:
        try:
            return bool(self._admin().list_topics(timeout=2).brokers)
        except KafkaException:
            return False

    def _end(self, number: signal.Signals, patience: float) -> None:
        process, self._process = self._process, None
        if process is None or process.poll() is not None:
            return
        process.send_signal(number)
        if number != signal.SIGKILL:
            # A frozen process ends only once it goes on.
            process.send_signal(signal.SIGCONT)
        try:
            process.wait(patience)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(patience)

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None or self._process.poll() is not None:
            raise KafkaBrokerError("Kafka does not run; call start() first.")
        return self._process

    def _admin(self) -> AdminClient:
        quiet = {"log_level": 0, "error_cb": lambda error: None}
        return AdminClient({"bootstrap.servers": self.bootstrap_servers, **quiet})

    def _ask(self, request: Callable[[AdminClient], Mapping[Any, Any]]) -> None:
        admin = self._admin()
        for future in request(admin).values():
            future.result(timeout=REQUEST_TIMEOUT_SECONDS)

    def _wait_for_partitions(self, name: str, partitions: int) -> None:
        deadline = time.monotonic() + REQUEST_TIMEOUT_SECONDS
        while (found := self.partitions(name)) != partitions:
            if time.monotonic() > deadline:
                raise KafkaBrokerError(
                    f"Topic {name} has {found} partitions after {REQUEST_TIMEOUT_SECONDS} seconds, expected "
                    f"{partitions}. Kafka's log ends:\n{self.log_end()}"
                )
            time.sleep(0.05)


def _class_path(folder: Path) -> str:
    """Jars of the pom beside this module, from the local Maven cache if they are there, else fetched."""
    pom = Path(__file__).with_name("pom.xml")
    folder.mkdir(parents=True, exist_ok=True)
    listing = folder.resolve() / "class-path.txt"
    command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:build-classpath", f"-Dmdep.outputFile={listing}"]
    found = None
    for options in (["-o"], []):
        found = subprocess.run(
            [*command, *options],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=MAVEN_TIMEOUT_SECONDS,
            check=False,
            env={**os.environ, "MAVEN_OPTS": "-XX:TieredStopAtLevel=1 " + os.environ.get("MAVEN_OPTS", "")},
        )
        if found.returncode == 0:
            return listing.read_text(encoding="utf-8").strip()
    output = found.stdout[-2000:] if found is not None else ""
    raise KafkaBrokerError(f"Maven could not fetch the jars of Kafka ({pom}):\n{output}")


def _write_certificate(certificate_file: Path, key_file: Path) -> None:
    """A key and a certificate for HOST, signed by itself, good for a day."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address(HOST))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate_file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    key_file.write_bytes(key.private_bytes(*form))


def _one_line(file: Path) -> str:
    """A PEM file as a Java properties file wants it."""
    return "\\n".join(file.read_text(encoding="ascii").splitlines())


def _end_with_parent() -> None:
    """Let Linux kill the broker when whoever started it is killed and can't (`PR_SET_PDEATHSIG`)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind((HOST, 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex((HOST, port)) == 0
