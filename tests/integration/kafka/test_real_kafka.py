"""The Kafka source and what only a real broker does to it: groups, rebalances, restarts, loss, authentication."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack, closing
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer
from pydantic import SecretStr

from flows.settings import Settings
from flows.streams.source import (
    OutgoingRecords,
    PositionLost,
    StreamError,
    StreamNotFoundError,
    StreamSource,
    StreamUnavailableError,
    open_publisher,
    open_source,
)
from tests.integration.kafka.bulk_producer import produce
from tests.integration.kafka.kafka_broker import PASSWORD, USER, KafkaBroker

pytestmark = pytest.mark.integration

TIMEOUT_SECONDS = 40.0
PATIENCE = {
    "kafka_connect_seconds": 10,
    "kafka_patience_seconds": 30,
    "kafka_session_seconds": 3,
    "kafka_poll_interval_seconds": 30,
}


@pytest.fixture
def settings(real_kafka: KafkaBroker, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, kafka_bootstrap_servers=real_kafka.bootstrap_servers, **PATIENCE)


@pytest.fixture
def topic(real_kafka: KafkaBroker) -> str:
    name = f"clicks-{uuid4().hex[:12]}"
    real_kafka.create_topic(name, partitions=4)
    return name


class Member:
    """One consumer that goes on, like the engine, where the ledger says: what any member has read of a partition."""

    def __init__(self, settings: Settings, topic: str, ledger: dict[tuple[str, str], int]) -> None:
        self.source: StreamSource = open_source(settings, "kafka", topic, group=f"group-{topic}")
        self.ledger = ledger
        self.owned: set[str] = set()
        self.assigned: list[str] = []
        self.revoked: list[str] = []
        self.lost: list[PositionLost] = []
        self.incarnations: list[str] = []
        self.read: dict[str, list[tuple[int, bytes | None]]] = defaultdict(list)

    def close(self) -> None:
        self.source.close()

    def poll(self, max_records: int = 500, timeout_seconds: float = 0.2) -> int:
        polled = self.source.poll(max_records, timeout_seconds)
        self.owned -= set(polled.revoked)
        self.revoked.extend(polled.revoked)
        for partition in polled.assigned:
            self.owned.add(partition.partition)
            self.assigned.append(partition.partition)
            self.incarnations.append(partition.incarnation)
            known = self.ledger.get((partition.incarnation, partition.partition), partition.first_position)
            self.source.seek(partition.partition, known)
        self.lost.extend(polled.lost)
        for batch in polled.records:
            assert batch.partition in self.owned, "records of a partition that somebody else has"
            self.read[batch.partition].extend(zip(batch.positions, batch.values, strict=True))
            self.ledger[self.incarnations[-1], batch.partition] = batch.next_position
        return sum(len(batch.positions) for batch in polled.records)

    @property
    def values(self) -> list[bytes | None]:
        return [value for part in self.read.values() for _, value in part]


def wait(done: Callable[[], bool], *members: Member, what: str, seconds: float = TIMEOUT_SECONDS) -> None:
    """Let members poll by turns until something is so."""
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        for member in members:
            member.poll()


def numbered(count: int, first: int = 0) -> list[bytes]:
    return [f"{number:08d}".encode() for number in range(first, first + count)]


def assert_in_order(member: Member) -> None:
    for part in member.read.values():
        positions = [position for position, _ in part]
        assert positions == sorted(set(positions))


def test_members_share_partitions_and_a_third_joins_in_mid_read(
    real_kafka: KafkaBroker, settings: Settings, topic: str
) -> None:
    values = numbered(24_000)
    # Without keys, librdkafka fills one partition after the other.
    produce(real_kafka.bootstrap_servers, topic, values, keys=[value[-2:] for value in values])
    ledger: dict[tuple[str, str], int] = {}
    with ExitStack() as stack:
        first, second = (stack.enter_context(closing(Member(settings, topic, ledger))) for _ in range(2))
        wait(lambda: len(first.owned) == len(second.owned) == 2, first, second, what="two partitions each")
        assert first.owned | second.owned == {"0", "1", "2", "3"}
        wait(lambda: len(first.values) > 500 and len(second.values) > 500, first, second, what="both read")
        before = len(first.revoked) + len(second.revoked)
        third = stack.enter_context(closing(Member(settings, topic, ledger)))
        everybody = (first, second, third)
        wait(lambda: bool(third.owned) and sum(len(one.owned) for one in everybody) == 4, *everybody, what="shares")
        # Cooperative: nobody but the one who gave a partition away was interrupted.
        assert len(first.revoked) + len(second.revoked) - before == 1
        wait(lambda: sum(len(one.values) for one in everybody) == len(values), *everybody, what="all read")
        for member in everybody:
            assert_in_order(member)
        assert sorted(value or b"" for one in everybody for value in one.values) == values

        third.close()
        wait(lambda: len(first.owned | second.owned) == 4, first, second, what="the others have it again", seconds=8)


def test_a_member_that_hangs_loses_its_partitions(real_kafka: KafkaBroker, settings: Settings, topic: str) -> None:
    values = numbered(400)
    produce(real_kafka.bootstrap_servers, topic, values)
    hanging = settings.model_copy(update={"kafka_poll_interval_seconds": 3.0})
    ledger: dict[tuple[str, str], int] = {}
    with closing(Member(hanging, topic, ledger)) as frozen, closing(Member(settings, topic, ledger)) as alive:
        wait(lambda: len(frozen.owned) == len(alive.owned) == 2, frozen, alive, what="two partitions each")
        # From here on only one of them polls.
        wait(lambda: len(alive.owned) == 4, alive, what="the one that polls has all")
        wait(lambda: len(alive.values) + len(frozen.values) == len(values), alive, what="all read")
        frozen.poll(timeout_seconds=2.0)
        assert len(frozen.revoked) >= 2, "it must be told what it lost"
        wait(lambda: len(frozen.owned) == 2, frozen, alive, what="it has a share again")
    assert sorted([*frozen.values, *alive.values], key=lambda value: value or b"") == values


def test_a_broker_that_is_killed_and_started_in_mid_read(
    real_kafka: KafkaBroker, settings: Settings, topic: str
) -> None:
    values = numbered(8000)
    produce(real_kafka.bootstrap_servers, topic, values)
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: len(member.values) > 2000, member, what="some read")
        real_kafka.kill()
        for _ in range(5):
            member.poll(timeout_seconds=0.3)
        real_kafka.start()
        more = numbered(1000, first=8000)
        produce(real_kafka.bootstrap_servers, topic, more)
        wait(lambda: len(member.values) >= 9000, member, what="all read")
        member.poll(timeout_seconds=1.0)
        assert_in_order(member)
        assert sorted(value or b"" for value in member.values) == values + more
        assert len(set(member.incarnations)) == 1


def test_a_broker_that_is_gone_or_hangs_is_an_error_in_time(
    real_kafka: KafkaBroker, settings: Settings, topic: str
) -> None:
    impatient = settings.model_copy(update={"kafka_patience_seconds": 2.0})
    produce(real_kafka.bootstrap_servers, topic, numbered(100))
    with closing(Member(impatient, topic, {})) as member:
        wait(lambda: len(member.values) == 100, member, what="all read")
        real_kafka.freeze()
        began = time.monotonic()
        with pytest.raises(StreamUnavailableError, match="has not answered"):
            wait(lambda: False, member, what="an error")
        assert time.monotonic() - began < 15
        with pytest.raises(StreamUnavailableError, match=topic):
            member.source.incarnation()
        real_kafka.thaw()
        produce(real_kafka.bootstrap_servers, topic, numbered(50, first=100))

        def read_on() -> bool:
            try:
                member.poll()
            except StreamUnavailableError:
                time.sleep(0.1)
            return len(member.values) == 150

        wait(read_on, what="reading goes on once it answers")
        real_kafka.kill()
        with pytest.raises(StreamUnavailableError, match=r"127\.0\.0\.1"):
            wait(lambda: False, member, what="an error")
        nobody = settings.model_copy(update={"kafka_connect_seconds": 1.0})
        with pytest.raises(StreamUnavailableError, match=r"127\.0\.0\.1"):
            open_source(nobody, "kafka", topic, group="group")


def test_a_topic_deleted_and_made_anew_while_it_is_read(
    real_kafka: KafkaBroker, settings: Settings, topic: str
) -> None:
    produce(real_kafka.bootstrap_servers, topic, numbered(4000))
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: len(member.values) > 500, member, what="some read")
        former = member.source.incarnation()
        real_kafka.delete_topic(topic)
        real_kafka.create_topic(topic, partitions=2)
        later = numbered(600, first=10_000)
        produce(real_kafka.bootstrap_servers, topic, later)
        seen = len(member.values)
        wait(lambda: any(one != former for one in member.incarnations), member, what="the new life is assigned")
        wait(lambda: {*later} <= {*member.values}, member, what="the new life is read")
        assert member.source.incarnation() == member.incarnations[-1] != former
        # Whatever came after the old life's records is the new life's, from its very beginning and once.
        new = [value for value in member.values if value >= b"00010000"]
        assert sorted(new) == later
        assert len(member.values) - len(later) >= seen


def test_a_topic_that_stays_away_is_an_error(real_kafka: KafkaBroker, settings: Settings, topic: str) -> None:
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: len(member.owned) == 4, member, what="assigned")
        real_kafka.delete_topic(topic)
        with pytest.raises(StreamNotFoundError, match=topic):
            wait(lambda: False, member, what="an error", seconds=15)
        with pytest.raises(StreamNotFoundError, match=topic):
            member.source.incarnation()


def test_records_that_expire_while_a_reader_is_far_behind(
    real_kafka: KafkaBroker, settings: Settings, topic: str
) -> None:
    produce(real_kafka.bootstrap_servers, topic, numbered(3000), partition=2)
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: 10 <= len(member.values) < 3000, member, what="some read")
        real_kafka.delete_records(topic, partition=2, before=2500)
        small = settings.model_copy(update={"kafka_fetch_bytes": 1024})
        with closing(Member(small, topic, {})) as late:
            wait(lambda: len(late.owned) + len(member.owned) == 4 and bool(late.owned), late, member, what="shares")
            one = late if "2" in late.owned else member
            one.source.seek("2", 100)
            wait(lambda: bool(one.lost), one, what="the loss is said")
            (lost,) = one.lost
            assert (lost.partition, lost.position, lost.first_position, lost.end_position) == ("2", 100, 2500, 3000)


def test_small_retention_by_time_loses_what_was_not_read(
    real_kafka: KafkaBroker, settings: Settings, topic: str
) -> None:
    old = int((time.time() - 3600) * 1000)
    with open_publisher(settings, "kafka", topic) as publisher:
        publisher.publish(OutgoingRecords([b"k"] * 500, numbered(500), published_at=[old] * 500))
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: len(member.values) == 500, member, what="all read")
        (partition,) = member.read
        real_kafka.configure_topic(topic, {"retention.ms": "60000"})

        def lost() -> bool:
            # Until the broker looks again for what is too old, the records are still there.
            member.source.seek(partition, 20)
            member.poll(timeout_seconds=1.0)
            return bool(member.lost)

        wait(lost, what="the loss is said")
        assert (member.lost[0].position, member.lost[0].first_position) == (20, 500)


def test_partitions_added_later_are_assigned(real_kafka: KafkaBroker, settings: Settings, topic: str) -> None:
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: len(member.owned) == 4, member, what="assigned")
        real_kafka.add_partitions(topic, total=6)
        produce(real_kafka.bootstrap_servers, topic, numbered(10), partition=5)
        wait(lambda: len(member.values) == 10, member, what="the new partition is read")
        assert member.owned == {"0", "1", "2", "3", "4", "5"}
        assert member.revoked == [], "those that stay were not interrupted"


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
def test_every_compression_is_read(real_kafka: KafkaBroker, settings: Settings, topic: str, codec: str) -> None:
    values = [b'{"n": %d, "text": "' % number + b"abc" * 50 + b'"}' for number in range(2000)]
    produce(real_kafka.bootstrap_servers, topic, values, partition=1, compression=codec)
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: len(member.values) == 2000, member, what="all read")
    assert member.values == values


def test_only_committed_transactions_are_read(real_kafka: KafkaBroker, settings: Settings, topic: str) -> None:
    def run(name: str, count: int, commit: bool) -> None:
        producer.begin_transaction()
        for number in range(count):
            producer.produce(topic, f"{name}-{number:04d}".encode(), partition=0)
        producer.flush(10)
        if commit:
            producer.commit_transaction(10)
        else:
            producer.abort_transaction(10)

    producer = Producer(
        {"bootstrap.servers": real_kafka.bootstrap_servers, "transactional.id": f"id-{topic}", "log_level": 0}
    )
    producer.init_transactions(20)
    run("a", 300, commit=True)
    run("b", 300, commit=False)
    run("c", 300, commit=True)
    run("d", 300, commit=False)
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: len(member.values) == 600, member, what="all read")
        deadline = time.monotonic() + 10
        while not all(lag.is_at_end for lag in member.source.lag().values()):
            assert time.monotonic() < deadline, "what was aborted at the end is in the way"
            member.poll()
        producer.begin_transaction()
        producer.produce(topic, b"open", partition=0)
        producer.flush(10)
        for _ in range(4):
            member.poll(timeout_seconds=0.3)
        assert len(member.values) == 600, "an open transaction must not be seen"
        producer.commit_transaction(10)
        wait(lambda: len(member.values) == 601, member, what="it is seen when it is committed")
    names = [value.split(b"-")[0] for value in member.values]
    assert names == [b"a"] * 300 + [b"c"] * 300 + [b"open"]


def test_what_is_fetched_ahead_is_bounded(real_kafka: KafkaBroker, settings: Settings, topic: str) -> None:
    values = [b"x" * 10_000] * 400
    produce(real_kafka.bootstrap_servers, topic, values, partition=0)
    small = settings.model_copy(update={"kafka_fetch_bytes": 100_000})
    with closing(Member(small, topic, {})) as member:
        wait(lambda: len(member.values) == 400, member, what="all read, in small bites")
        member.source.seek("0", 0)
        most = max(member.poll(max_records=400) for _ in range(5))
    # A bite is at least one batch of the producer's, which holds up to 512 KiB.
    assert 0 < most <= 60


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_credentials(real_kafka: KafkaBroker, settings: Settings, topic: str, mechanism: str) -> None:
    secure = settings.model_copy(
        update={
            "kafka_bootstrap_servers": real_kafka.sasl_bootstrap_servers,
            "kafka_security_protocol": "SASL_PLAINTEXT",
            "kafka_sasl_mechanism": mechanism,
            "kafka_sasl_username": USER,
            "kafka_sasl_password": SecretStr(PASSWORD),
        }
    )
    with open_publisher(secure, "kafka", f"secure-{topic}") as publisher:
        publisher.ensure_stream(1)
        publisher.publish(OutgoingRecords([b"k"] * 20, numbered(20)))
    with closing(Member(secure, f"secure-{topic}", {})) as member:
        wait(lambda: len(member.values) == 20, member, what="all read")
    wrong = secure.model_copy(update={"kafka_sasl_password": SecretStr("wrong"), "kafka_connect_seconds": 3.0})
    with pytest.raises(StreamError, match="kafka_sasl_password") as refused:
        open_source(wrong, "kafka", topic, group="group")
    assert "wrong" not in str(refused.value)


def test_encrypted_with_certificates_on_both_sides(real_kafka: KafkaBroker, settings: Settings, topic: str) -> None:
    secure = settings.model_copy(
        update={
            "kafka_bootstrap_servers": real_kafka.ssl_bootstrap_servers,
            "kafka_security_protocol": "SSL",
            "kafka_ssl_ca_file": real_kafka.certificate_file,
            "kafka_ssl_certificate_file": real_kafka.certificate_file,
            "kafka_ssl_key_file": real_kafka.key_file,
        }
    )
    with open_publisher(secure, "kafka", topic) as publisher:
        publisher.publish(OutgoingRecords([b"k"] * 20, numbered(20)))
    with closing(Member(secure, topic, {})) as member:
        wait(lambda: len(member.values) == 20, member, what="all read")
    trusting_nobody = secure.model_copy(update={"kafka_ssl_ca_file": None, "kafka_connect_seconds": 1.0})
    # A client whose time is up in the middle of a handshake can't say yet what is wrong with it.
    said = []
    while len(said) < 5 and "certificate" not in "".join(said).lower():
        with pytest.raises(StreamUnavailableError, match="kafka_security_protocol") as refusal:
            open_source(trusting_nobody, "kafka", topic, group="group")
        said.append(str(refusal.value))
    assert "certificate" in said[-1].lower()


def test_a_join_that_ends_between_two_polls_is_not_joined_again(
    real_kafka: KafkaBroker, settings: Settings, topic: str
) -> None:
    """As with engines that load for a second or more between polls."""
    with closing(Member(settings, topic, {})) as first, closing(Member(settings, topic, {})) as second:
        wait(lambda: len(first.owned) == 4, first, what="the first has all")
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not (len(first.owned) == len(second.owned) == 2):
            assert time.monotonic() < deadline
            for member in (first, second):
                member.poll(timeout_seconds=0.0)
                time.sleep(0.4)
        for member in 4 * (first, second):
            member.poll(timeout_seconds=0.0)
            time.sleep(0.4)
        assert (len(first.assigned), len(first.revoked), len(second.assigned), len(second.revoked)) == (4, 2, 2, 0)


def test_a_publisher_goes_on_after_its_broker_was_away(real_kafka: KafkaBroker, settings: Settings, topic: str) -> None:
    impatient = settings.model_copy(update={"kafka_patience_seconds": 3.0})
    with open_publisher(impatient, "kafka", topic) as publisher:
        publisher.publish(OutgoingRecords([b"k"] * 10, numbered(10)))
        publisher.flush()
        real_kafka.stop()
        publisher.publish(OutgoingRecords([b"k"] * 10, numbered(10, first=10)))
        with pytest.raises(StreamUnavailableError, match="again"):
            publisher.flush()
        real_kafka.start()
        publisher.publish(OutgoingRecords([b"k"] * 10, numbered(10, first=10)))
        publisher.flush()
    with closing(Member(settings, topic, {})) as member:
        wait(lambda: {*member.values} == {*numbered(20)}, member, what="all read")
