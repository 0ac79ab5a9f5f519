"""Kafka's own: record batches taken apart, the embedded broker as a service, and what its restart means to readers."""

from __future__ import annotations

import ctypes
import gzip
import struct
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest
from crc32c import crc32c
from hypothesis import given, settings
from hypothesis import strategies as st
from kafka.record.memory_records import MemoryRecordsBuilder

from flows.settings import Settings
from flows.streams.columns import Column
from flows.streams.kafka_records import AbortedTransaction, CorruptRecordsError, RecordBatches
from flows.streams.source import (
    OutgoingRecords,
    StreamError,
    StreamSource,
    StreamUnavailableError,
    open_publisher,
    open_source,
)
from flows.streams.sources import kafka
from warehouse.local import broker, services

Row = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Timestamp, key, value, headers."""
NOW = 1_772_000_000_000
GZIP = 1


def batch(rows: Sequence[Row], base_offset: int = 0, codec: int = 0) -> bytes:
    """A batch as kafka-python's producer packs it and a broker places it."""
    builder = MemoryRecordsBuilder(2, codec, 1 << 26)
    for timestamp, key, value, headers in rows:
        builder.append(timestamp, key, value, headers)
    builder.close()
    packed = bytearray(builder.buffer())
    struct.pack_into(">q", packed, 0, base_offset)
    return bytes(packed)


def with_checksum(packed: bytes | bytearray) -> bytes:
    changed = bytearray(packed)
    struct.pack_into(">I", changed, 17, crc32c(bytes(changed[21:])))
    return bytes(changed)


def with_header(packed: bytes, *, attributes: int | None = None, producer_id: int = -1) -> bytes:
    changed = bytearray(packed)
    if attributes is not None:
        struct.pack_into(">h", changed, 21, attributes)
    struct.pack_into(">q", changed, 43, producer_id)
    return with_checksum(changed)


def taken(batches: RecordBatches, wanted: int = 1_000_000) -> list[tuple[int, Row]]:
    rows: list[tuple[int, Row]] = []
    while not batches.is_exhausted:
        records = batches.take(wanted)
        if records is None:
            continue
        columns = (records.timestamps, records.keys.to_pylist(), records.values.to_pylist(), records.headers)
        for offset, timestamp, key, value, headers in zip(records.offsets, *columns, strict=True):
            rows.append((int(offset), (int(timestamp), key, value, list(headers))))
    return rows


ROWS = st.lists(
    st.tuples(
        st.integers(min_value=0, max_value=2**42),
        st.none() | st.binary(max_size=200),
        st.none() | st.binary(max_size=20_000) | st.binary(max_size=70),
        st.lists(st.tuples(st.text(max_size=5), st.binary(max_size=5)), max_size=3),
    ),
    min_size=1,
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(parts=st.lists(ROWS, min_size=1, max_size=4), codec=st.sampled_from([0, GZIP]), wanted=st.integers(1, 40))
def test_batches_come_apart_into_what_was_packed(parts: list[list[Row]], codec: int, wanted: int) -> None:
    data, expected, offset = b"", [], 1000
    for rows in parts:
        data += batch(rows, offset, codec)
        expected += [(offset + number, row) for number, row in enumerate(rows)]
        offset += len(rows)
    first = 1000 + len(expected) // 2
    batches = RecordBatches(data, first_offset=first)
    assert taken(batches, wanted) == expected[len(expected) // 2 :]
    assert batches.next_offset == offset


def test_offsets_and_times_beyond_small_numbers() -> None:
    rows: list[Row] = [(time_, None, b"v", []) for time_ in (NOW, NOW - 2**40, NOW + 2**40, 0)]
    base = 2**62
    assert taken(RecordBatches(batch(rows, base), first_offset=base)) == [
        (base + number, row) for number, row in enumerate(rows)
    ]


def test_times_by_the_broker_hold_for_the_whole_batch() -> None:
    by_broker = with_header(batch([(NOW, None, b"a", []), (NOW + 5, None, b"b", [])]), attributes=0x08)
    assert [row[0] for _, row in taken(RecordBatches(by_broker, first_offset=0))] == [NOW + 5, NOW + 5]


def test_a_batch_that_is_cut_off_is_left_for_the_next_fetch() -> None:
    whole = batch([(NOW, None, b"a", [])])
    cut_off = batch([(NOW, None, b"b", [])], 1)[:-1]
    batches = RecordBatches(whole + cut_off, first_offset=0)
    assert [row[2] for _, row in taken(batches)] == [b"a"]
    assert batches.next_offset == 1
    assert RecordBatches(whole[:30], first_offset=0).is_exhausted


def test_transactions_that_were_aborted_are_not_seen() -> None:
    transactional, control = 0x10, 0x30

    def of(producer: int, value: bytes, offset: int) -> bytes:
        return with_header(batch([(NOW, None, value, [])], offset), attributes=transactional, producer_id=producer)

    def marker(producer: int, committed: bool, offset: int) -> bytes:
        key = struct.pack(">hh", 0, int(committed))
        return with_header(batch([(NOW, key, b"", [])], offset), attributes=control, producer_id=producer)

    plain = batch([(NOW, None, b"plain", [])], 2)
    data = of(1, b"no", 0) + of(2, b"yes", 1) + plain + marker(1, False, 3) + of(1, b"later", 4) + marker(2, True, 5)
    batches = RecordBatches(data, first_offset=0, aborted=[AbortedTransaction(1, 0)])
    assert [(offset, row[2]) for offset, row in taken(batches)] == [(1, b"yes"), (2, b"plain"), (4, b"later")]
    assert batches.next_offset == 6


GOOD = batch([(NOW, b"key", b"value", [("h", b"1")]), (NOW, b"key", b"value-2", [])], 7)


@pytest.mark.parametrize(
    ("name", "bytes_", "message"),
    [
        ("a changed byte", GOOD[:-3] + b"X" + GOOD[-2:], "checksum"),
        ("another format", GOOD[:16] + b"\x01" + GOOD[17:], "message format 1"),
        ("unknown compression", with_header(GOOD, attributes=7), "compression 7"),
        ("what is not packed", with_header(GOOD, attributes=1), "can't be unpacked"),
        ("fewer records", with_checksum(GOOD[:57] + struct.pack(">i", 1) + GOOD[61:]), "should hold 1"),
        ("a length too long", with_checksum(GOOD[:61] + b"\x7f" + GOOD[62:]), "offset 7"),
        ("a key too long", with_checksum(GOOD[:65] + b"\x7e" + GOOD[66:]), "offset 7"),
        ("a negative length", with_checksum(GOOD[:65] + b"\x09" + GOOD[66:]), "offset 7"),
    ],
)
def test_what_is_no_batch_is_refused(name: str, bytes_: bytes, message: str) -> None:
    with pytest.raises(CorruptRecordsError, match=message):
        taken(RecordBatches(bytes_, first_offset=7))


def test_snappy_with_and_without_the_header_of_java() -> None:
    def packed(payload: bytes) -> bytes:
        plain = batch([(NOW, b"k", b"v" * 500, [])])
        head = bytearray(plain[:61])
        struct.pack_into(">i", head, 8, len(head) + len(payload) - 12)
        return with_header(bytes(head) + payload, attributes=2)

    records = batch([(NOW, b"k", b"v" * 500, [])])[61:]
    codec = pa.Codec("snappy")
    blocks = [codec.compress(records[:100], asbytes=True), codec.compress(records[100:], asbytes=True)]
    framed = b"\x82SNAPPY\x00" + struct.pack(">ii", 1, 1) + b"".join(struct.pack(">i", len(b)) + b for b in blocks)
    for payload in (codec.compress(records, asbytes=True), framed):
        assert [row[2] for _, row in taken(RecordBatches(packed(payload), first_offset=0))] == [b"v" * 500]


def test_a_column_is_a_sequence_and_an_array() -> None:
    column: Column[bytes | None] = Column(pa.array([b"a", None, b"c"], pa.binary()))
    assert (len(column), column[0], column[1], column[-1], list(column[1:])) == (3, b"a", None, b"c", [None, b"c"])
    assert column == [b"a", None, b"c"]
    assert column != [b"a", None]
    assert pa.array(column).equals(pa.array([b"a", None, b"c"]))
    assert pa.array(column, pa.large_binary()).type == pa.large_binary()


# The embedded broker ------------------------------------------------------------------------------------------------


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    services.stop_service(services.BROKER, tmp_path)


def read(source: StreamSource, count: int, seconds: float = 30) -> tuple[list[bytes | None], set[str], list[str]]:
    """Values, the incarnations they were assigned under, and what was revoked."""
    values: list[bytes | None] = []
    incarnations: set[str] = set()
    revoked: list[str] = []
    deadline = time.monotonic() + seconds
    while len(values) < count:
        assert time.monotonic() < deadline, f"{len(values)} of {count} records"
        polled = source.poll(1000, 0.5)
        revoked.extend(polled.revoked)
        for partition in polled.assigned:
            incarnations.add(partition.incarnation)
            source.seek(partition.partition, partition.first_position)
        for part in polled.records:
            values.extend(part.values)
    return values, incarnations, revoked


def test_the_broker_is_a_service_of_its_home(home: Path) -> None:
    status = services.ensure_running(home, services.BROKER)
    assert status.port is not None
    assert broker.is_ready(home, status.host, status.port)
    assert not broker.is_ready(home / "other", status.host, status.port)
    assert services.ensure_running(home, services.BROKER).pid == status.pid
    assert broker.create_topic(status.host, status.port, "a b/c", partitions=2) is True
    assert broker.create_topic(status.host, status.port, "a b/c", partitions=5) is False
    life = broker.topic_incarnation(status.host, status.port, "a b/c")
    assert broker.delete_topic(status.host, status.port, "a b/c") is True
    assert broker.delete_topic(status.host, status.port, "a b/c") is False
    assert broker.topic_incarnation(status.host, status.port, "a b/c") != life
    with pytest.raises(broker.BrokerError, match="no-such"):
        broker.expire_records(status.host, status.port, "no-such", partition=0, before=1)
    assert services.stop_service(services.BROKER, home).state == "stopped"
    with pytest.raises(broker.BrokerError, match="doesn't answer"):
        broker.topic_incarnation(status.host, status.port, "a b/c")


def test_a_restart_of_the_embedded_broker_is_another_life_of_every_topic(home: Path) -> None:
    config = Settings(home=home, kafka_patience_seconds=20)
    with open_publisher(config, "kafka", "clicks") as publisher:
        publisher.ensure_stream(2)
        publisher.publish(OutgoingRecords([b"k"] * 10, [b"old"] * 10))
    with closing(open_source(config, "kafka", "clicks", group="g")) as source:
        assert read(source, 10)[0] == [b"old"] * 10
        former = source.incarnation()
        services.stop_service(services.BROKER, home)
        for _ in range(3):
            assert not source.poll(10, 0.2).records
        services.start_service(services.BROKER, home)
        with open_publisher(config, "kafka", "clicks") as publisher:
            publisher.ensure_stream(2)
            publisher.publish(OutgoingRecords([b"k"] * 20, [b"new"] * 20))
        values, incarnations, revoked = read(source, 20)
        assert values == [b"new"] * 20
        assert incarnations == {source.incarnation()}
        assert incarnations != {former}
        assert sorted(revoked) == ["0", "1"]


def test_an_embedded_broker_that_was_stopped_stays_so(home: Path) -> None:
    config = Settings(home=home, kafka_patience_seconds=2)
    with open_publisher(config, "kafka", "clicks") as publisher:
        publisher.ensure_stream(1)
    with closing(open_source(config, "kafka", "clicks", group="g")) as source:
        services.stop_service(services.BROKER, home)
        with pytest.raises(StreamUnavailableError, match="has not answered"):
            read(source, 1)
        with pytest.raises(StreamUnavailableError, match=str(home)):
            source.incarnation()
    assert {found.name: found.state for found in services.service_status(home)}[services.BROKER] == "stopped"


def test_a_seek_to_somebody_elses_partition_is_refused(home: Path) -> None:
    config = Settings(home=home)
    with open_publisher(config, "kafka", "clicks") as publisher:
        publisher.ensure_stream(1)
    with (
        closing(open_source(config, "kafka", "clicks", group="g")) as source,
        pytest.raises(StreamError, match="partition 5 is not assigned"),
    ):
        source.seek("5", 0)


def test_what_is_published_is_packed(home: Path) -> None:
    value = b"shop " * 2000
    assert len(gzip.compress(value)) < len(value) / 10
    with open_publisher(Settings(home=home), "kafka", "clicks") as publisher:
        publisher.ensure_stream(1)
        # More than the embedded broker keeps of a partition, were it not packed.
        publisher.publish(OutgoingRecords([b"k"] * 1000, [value] * 1000))
        publisher.flush()
        with closing(open_source(Settings(home=home), "kafka", "clicks", group="g")) as source:
            assert len(read(source, 1000)[0]) == 1000


# A cluster of several nodes: librdkafka's in-process one, in this process -------------------------------------------


class ThreeNodes:
    """Three nodes that partitions can be moved between; a real cluster of three would take a minute to start."""

    def __init__(self) -> None:
        self._library = broker._librdkafka()
        self._library.rd_kafka_mock_partition_set_leader.argtypes = [
            ctypes.c_void_p,
            ctypes.c_char_p,
            ctypes.c_int32,
            ctypes.c_int32,
        ]
        for name in ("up", "down"):
            getattr(self._library, f"rd_kafka_mock_broker_set_{name}").argtypes = [ctypes.c_void_p, ctypes.c_int32]
        error = ctypes.create_string_buffer(512)
        self._handle = self._library.rd_kafka_new(0, self._library.rd_kafka_conf_new(), error, 512)
        self._cluster = self._library.rd_kafka_mock_cluster_new(self._handle, 3)
        self.servers = self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode()

    def create(self, topic: str, partitions: int) -> None:
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic.encode(), partitions, 3) == 0

    def lead(self, topic: str, partition: int, node: int) -> None:
        assert self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic.encode(), partition, node) == 0

    def set_up(self, node: int, up: bool) -> None:
        action = getattr(self._library, f"rd_kafka_mock_broker_set_{'up' if up else 'down'}")
        assert action(self._cluster, node) == 0

    def close(self) -> None:
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._handle)


@pytest.fixture
def three_nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[ThreeNodes]:
    nodes = ThreeNodes()
    options = {"bootstrap_servers": nodes.servers.split(","), "api_version": kafka.EMBEDDED_VERSION}
    # kafka-python can't find out by itself what librdkafka's cluster speaks.
    monkeypatch.setattr(kafka, "_cluster", lambda settings, start: kafka._Cluster(options, None, "three nodes"))
    yield nodes
    nodes.close()


def test_partitions_are_read_wherever_they_move(three_nodes: ThreeNodes, home: Path) -> None:
    config = Settings(home=home, kafka_patience_seconds=20)
    topic, partitions = "clicks", 6
    three_nodes.create(topic, partitions)
    for partition in range(partitions):
        three_nodes.lead(topic, partition, 1 + partition % 3)
    values = [f"{number:05d}".encode() for number in range(6000)]
    keys = [value[-2:] for value in values]
    with (
        open_publisher(config, "kafka", topic) as publisher,
        closing(open_source(config, "kafka", topic, group="g")) as source,
    ):
        publisher.publish(OutgoingRecords(keys[:2000], values[:2000]))
        publisher.flush()
        found, _, _ = read(source, 2000)
        for partition in range(partitions):
            three_nodes.lead(topic, partition, 1 + (partition + 1) % 3)
        publisher.publish(OutgoingRecords(keys[2000:4000], values[2000:4000]))
        publisher.flush()
        found += read(source, 2000)[0]
        for partition in range(partitions):
            three_nodes.lead(topic, partition, 1 + partition % 2)
        three_nodes.set_up(3, False)
        publisher.publish(OutgoingRecords(keys[4000:], values[4000:]))
        publisher.flush()
        found += read(source, 2000)[0]
        three_nodes.set_up(3, True)
        assert not source.poll(100, 1.0).records
    assert sorted(value or b"" for value in found) == values
