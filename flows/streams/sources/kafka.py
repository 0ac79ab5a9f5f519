"""Kafka, by kafka-python; and the embedded broker of the home when no servers are set.

Connections, the protocol and the consumer group are kafka-python's (its `ConsumerCoordinator`); fetching is done here,
for three reasons. Records stay columns (`flows.streams.kafka_records`). A fetch names the topic by its id where the
broker knows ids (2.8 and later), so records of a topic that was deleted and made anew are never taken for the old
one's. And what is fetched ahead is bounded by bytes.

Its `KafkaConsumer` would do for the group, were it not that it loses the answer to a request to join that comes between
two polls, and joins again, which interrupts everybody: with seconds of loading between polls, over and over.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar
from uuid import UUID

import kafka.errors as errors
import pyarrow as pa
from kafka import KafkaAdminClient, KafkaProducer
from kafka.consumer.fetcher import Fetcher
from kafka.consumer.subscription_state import ConsumerRebalanceListener, SubscriptionState
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.coordinator.assignors.range import RangePartitionAssignor
from kafka.coordinator.consumer import ConsumerCoordinator
from kafka.future import Future
from kafka.net.compat import KafkaNetClient
from kafka.net.manager import KafkaConnectionManager
from kafka.net.selector import NetworkSelector
from kafka.protocol.consumer import FetchRequest, FetchResponse, IsolationLevel
from kafka.protocol.metadata import MetadataRequest, MetadataResponse
from kafka.structs import OffsetAndMetadata, TopicPartition

from flows.streams.columns import Column
from flows.streams.kafka_records import (
    AbortedTransaction,
    CorruptRecordsError,
    RecordBatches,
    Records,
    concatenated,
)
from flows.streams.source import (
    AssignedPartition,
    Lag,
    OutgoingRecords,
    PartitionRecords,
    Polled,
    PositionLost,
    StreamError,
    StreamNotFoundError,
    StreamUnavailableError,
)
from warehouse.local import broker, services

if TYPE_CHECKING:
    from types import TracebackType

    from flows.settings import Settings

logger = logging.getLogger(__name__)

TRANSPORT = "kafka"
CLIENT = "customer-analytics"
EMBEDDED_VERSION = (2, 0)
"""What librdkafka's in-process broker speaks well enough; kafka-python can't read its newer answers."""

LARGEST_BATCH_BYTES = 64 * 1024 * 1024
"""A broker sends a batch whole, even when it alone is more than was asked for."""
FETCH_BY_TOPIC_ID = 13
"""The first version of Kafka's fetch request that names topics by id (KIP-516)."""
TOPIC_IDS_SINCE = 10
"""The first version of its metadata request that tells them."""

FETCH_WAIT_SECONDS = 0.25
"""A broker without new records holds a fetch back for so long."""
REQUEST_SECONDS = 5.0
"""A broker that takes longer to answer anything else is asked again."""
BOOTSTRAP_SECONDS = 2.0
"""How often to ask why, while no bootstrap server can be used."""
METADATA_SECONDS = 2.0
"""How often `poll` looks whether the topic is still the same."""
IDLE_SECONDS = 0.1
"""How long it waits for an answer in one go."""
RETRY_SECONDS = 0.1
GONE_SECONDS = 3.0
"""A topic that is gone for longer is an error, not a topic being made anew."""
CLOSE_SECONDS = 5.0
EMBEDDED_SESSION_SECONDS = 3.0
EMBEDDED_RECONNECT_SECONDS = 1.0
"""The embedded broker has another port of its own after a restart."""

Answer = TypeVar("Answer")
FetchedPartition: TypeAlias = FetchResponse.FetchableTopicResponse.PartitionData

RETRIED_ERRORS = frozenset(
    error.errno
    for error in (
        errors.UnknownTopicOrPartitionError,
        errors.LeaderNotAvailableError,
        errors.NotLeaderForPartitionError,
        errors.ReplicaNotAvailableError,
        errors.KafkaStorageError,
        errors.FencedLeaderEpochError,
        errors.UnknownLeaderEpochError,
        errors.OffsetNotAvailableError,
        errors.UnknownTopicIdError,
        errors.InconsistentTopicIdError,
        errors.RequestTimedOutError,
    )
)
"""What a fetch answers while a partition moves, its broker starts, or its topic is made anew: look again who has it."""


@dataclass(frozen=True)
class _Cluster:
    """How to reach a cluster.

    Attributes:
        options: for every client of kafka-python.
        embedded: host and port of the embedded broker's service, if it is that.
        name: for messages.
    """

    options: Mapping[str, Any]
    embedded: tuple[str, int] | None
    name: str

    @property
    def authenticates(self) -> bool:
        return "sasl_mechanism" in self.options


@dataclass(frozen=True)
class _Topic:
    """A topic as the cluster describes it now.

    Attributes:
        incarnation: its id, or the embedded broker's word for this life of it; empty where neither is known.
        topic_id: None where the broker knows no ids.
        leaders: node and leader epoch, by partition.
    """

    incarnation: str
    topic_id: UUID | None
    leaders: Mapping[int, tuple[int, int]]


@dataclass
class _Reading:
    """An assigned partition: where it is read and what was fetched ahead. A seek makes a new one, so that an answer to
    what was asked before finds nobody to belong to.

    Attributes:
        position: next position to hand out; None: nobody has said yet.
        fetched: answer being taken apart.
        rest: records of it that are decoded and not handed out.
        leader_epoch: of the last record; -1: unknown.
        lost: the broker has said that the position is not there.
        cut_off_at: where its log ends instead, if it lost its newest records.
    """

    partition: int
    incarnation: str
    position: int | None = None
    fetched: RecordBatches | None = None
    rest: Records | None = None
    leader_epoch: int = -1
    lost: bool = False
    cut_off_at: int | None = None

    @property
    def has_records(self) -> bool:
        return self.fetched is not None or self.rest is not None


@dataclass
class _Fetch:
    """A fetch on its way to a node: what was asked, and its answer."""

    node: int
    asked: Mapping[int, tuple[_Reading, int]]
    answer: FetchResponse | None = None
    error: BaseException | None = None


class _Membership(ConsumerRebalanceListener):
    """Notes what the group gives and takes. Called in kafka-python's own thread, so it only notes."""

    def __init__(self) -> None:
        self.events: deque[tuple[str, frozenset[int]]] = deque()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:
        if revoked:
            self.events.append(("revoked", frozenset(partition.partition for partition in revoked)))

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        if assigned:
            self.events.append(("assigned", frozenset(partition.partition for partition in assigned)))


class _Connection:
    """One member of a consumer group of one topic, and what we ask the cluster over its connections.

    Attributes:
        events: what the group gave ("assigned") and took ("revoked"), in order; whoever acts on one takes it out.
    """

    def __init__(
        self,
        cluster: _Cluster,
        topic: str,
        group: str,
        settings: Settings,
        *,
        patience_seconds: float | None = None,
    ) -> None:
        self._cluster = cluster
        self._topic = topic
        options = {
            **cluster.options,
            "client_id": CLIENT,
            "request_timeout_ms": _milliseconds(30),
            "receive_message_max_bytes": 2 * settings.kafka_fetch_bytes + LARGEST_BATCH_BYTES,
            "metadata_max_age_ms": _milliseconds(METADATA_SECONDS),
            "reconnect_backoff_max_ms": 1000,
        }
        self._network = NetworkSelector(**options)
        self._manager = KafkaConnectionManager(self._network, **options)
        self._manager.cluster.config["allow_auto_create_topics"] = False
        self._client = KafkaNetClient(net=self._network, manager=self._manager)
        try:
            self._network.start()
            self._bootstrap(patience_seconds or settings.kafka_connect_seconds)
            subscription = SubscriptionState(offset_reset_strategy="none")
            self._coordinator = ConsumerCoordinator(
                self._client,
                subscription,
                api_version=self._manager.broker_version,
                group_id=group,
                enable_auto_commit=False,
                **self._sharing(settings),
            )
            self._offsets = Fetcher(self._client, subscription, isolation_level="read_committed")
        except BaseException:
            self._client.close()
            raise
        membership = _Membership()
        self.events = membership.events
        subscription.subscribe(topics=[topic], listener=membership)
        self._manager.cluster.set_topics([topic])
        self._joining: Future | None = None

    def _sharing(self, settings: Settings) -> dict[str, Any]:
        """How members share partitions and notice each other's death; all of a group must share in the same way."""
        assignor, session_seconds = CooperativeStickyAssignor, settings.kafka_session_seconds
        if self._cluster.embedded is not None:
            # It knows no cooperation, and lets everybody wait for a session less a second when somebody comes or goes.
            assignor, session_seconds = RangePartitionAssignor, min(session_seconds, EMBEDDED_SESSION_SECONDS)
        return {
            "assignors": [assignor],
            "session_timeout_ms": _milliseconds(session_seconds),
            "heartbeat_interval_ms": _milliseconds(session_seconds / 5),
            "max_poll_interval_ms": _milliseconds(settings.kafka_poll_interval_seconds),
        }

    def _bootstrap(self, patience_seconds: float) -> None:
        """Connect; kafka-python would try to the end with credentials that were refused, and not say what was wrong."""
        deadline = time.monotonic() + patience_seconds
        while True:
            remaining = deadline - time.monotonic()
            try:
                self._manager.bootstrap(timeout_ms=_milliseconds(min(max(remaining, RETRY_SECONDS), BOOTSTRAP_SECONDS)))
            except errors.KafkaTimeoutError as error:
                reason = self._refusal()
                if remaining <= BOOTSTRAP_SECONDS:
                    raise errors.KafkaConnectionError(str(reason)) from error
            else:
                return

    def _refusal(self) -> errors.KafkaError | None:
        """Why no bootstrap server could be used.

        Raises:
            KafkaError: one answers and refuses us.
        """

        async def connect(node_id: str) -> None:
            await self._manager.get_connection(node_id, refresh_metadata_on_err=False)

        # A broker that refuses hangs up at once, and often enough kafka-python sees no more than that.
        deadline = time.monotonic() + (BOOTSTRAP_SECONDS if self._cluster.authenticates else BOOTSTRAP_SECONDS / 2)
        reason = None
        while (remaining := deadline - time.monotonic()) > 0:
            for node in self._manager.cluster.bootstrap_brokers():
                attempt = self._manager.call_soon(connect, node.node_id)
                try:
                    self._network.run(self._manager.wait_for, attempt, _milliseconds(remaining))
                except errors.NodeNotReadyError:
                    time.sleep(RETRY_SECONDS)
                except errors.RetriableError as error:
                    reason = error
                    if not self._cluster.authenticates:
                        return reason
        return reason

    def close(self, timeout_seconds: float = CLOSE_SECONDS) -> None:
        """Leave the group and disconnect."""
        try:
            self._coordinator.close(autocommit=False, timeout_ms=_milliseconds(timeout_seconds))
        finally:
            self._client.close()

    def serve_group(self, wake: Callable[[], None]) -> None:
        """Tell the group that we live, and join it (anew) when that is due.

        Joining goes on in kafka-python's thread for as long as it takes, whether or not anybody calls this again; then
        `wake` is called, in that thread.
        """
        if self._joining is not None:
            if not self._joining.is_done:
                return
            joined, self._joining = self._joining, None
            if joined.exception is not None:
                raise joined.exception
        self._coordinator.poll_heartbeat()
        if self._coordinator.need_rejoin():
            self._joining = self._manager.call_soon(self._coordinator.ensure_active_group_async)
            self._joining.add_both(lambda _: wake())

    def describe(self, timeout_seconds: float) -> _Topic | None:
        """The topic now, by asking; None: there is none."""

        async def ask() -> MetadataResponse:
            topics = [MetadataRequest.MetadataRequestTopic(name=self._topic)]
            request = MetadataRequest(
                topics=topics,
                allow_auto_topic_creation=False,
                include_cluster_authorized_operations=False,
                include_topic_authorized_operations=False,
            )
            answer = await self._manager.send(request, request_timeout_ms=_milliseconds(REQUEST_SECONDS))
            # The group notices new partitions by what the client's own knowledge says.
            self._manager.cluster.update_metadata(answer)
            return answer

        answer = self._await(self._manager.call_soon(ask), timeout_seconds)
        topic = answer.topics[0]
        if topic.error_code in (errors.UnknownTopicOrPartitionError.errno, errors.UnknownTopicIdError.errno):
            return None
        if topic.error_code not in (0, errors.LeaderNotAvailableError.errno):
            raise errors.for_code(topic.error_code)(self._topic)
        leaders = {part.partition_index: (part.leader_id, part.leader_epoch) for part in topic.partitions}
        topic_id = topic.topic_id if answer.API_VERSION >= TOPIC_IDS_SINCE else None
        if topic_id is None or topic_id.int == 0:
            topic_id = None
        if self._cluster.embedded is not None:
            incarnation = broker.topic_incarnation(*self._cluster.embedded, self._topic)
        else:
            incarnation = str(topic_id) if topic_id is not None else ""
        return _Topic(incarnation, topic_id, leaders)

    def first_positions(self, partitions: Sequence[int], timeout_seconds: float) -> dict[int, int]:
        """The oldest position that can still be read, by partition."""
        return self._asked_offsets(self._offsets.beginning_offsets, partitions, timeout_seconds)

    def end_positions(self, partitions: Sequence[int], timeout_seconds: float) -> dict[int, int]:
        """The position after the newest record of a finished transaction, by partition."""
        return self._asked_offsets(self._offsets.end_offsets, partitions, timeout_seconds)

    def committed_positions(self, partitions: Sequence[int], timeout_seconds: float) -> dict[int, int]:
        """What the group has committed; partitions of which nothing was are left out."""
        found = self._asked_offsets(self._coordinator.fetch_committed_offsets, partitions, timeout_seconds)
        return {partition: committed.offset for partition, committed in found.items() if committed.offset >= 0}

    def commit(self, next_positions: Mapping[int, int], timeout_seconds: float) -> None:
        offsets = {
            TopicPartition(self._topic, partition): OffsetAndMetadata(position, "", -1)
            for partition, position in next_positions.items()
        }
        self._coordinator.commit_offsets_sync(offsets, timeout_ms=_milliseconds(timeout_seconds))

    def fetch(
        self, node: int, request: FetchRequest, done: Callable[[FetchResponse | None, BaseException | None], None]
    ) -> None:
        """Send a fetch; `done` gets its answer or its error, in kafka-python's thread."""
        future = self._manager.call_soon(self._manager.send, request, node)
        future.add_callback(lambda answer: done(answer, None))
        future.add_errback(lambda error: done(None, error))

    def _asked_offsets(
        self, ask: Callable[..., dict[TopicPartition, Any]], partitions: Sequence[int], timeout_seconds: float
    ) -> dict[int, Any]:
        if not partitions:
            return {}
        wanted = [TopicPartition(self._topic, partition) for partition in partitions]
        found = ask(wanted, timeout_ms=_milliseconds(timeout_seconds))
        return {partition.partition: offset for partition, offset in found.items()}

    def _await(self, future: Future, timeout_seconds: float) -> MetadataResponse:
        return self._network.run(self._manager.wait_for, future, _milliseconds(timeout_seconds))


class KafkaSource:
    """One member of a consumer group; see `flows.streams.source.StreamSource`.

    Raises (by every method that asks the cluster):
        StreamUnavailableError: no answer for longer than `kafka_patience_seconds`.
        StreamNotFoundError: there is no such topic.
        StreamError: the cluster refuses, e.g. the credentials.
    """

    transport = TRANSPORT

    def __init__(self, settings: Settings, stream: str, group: str) -> None:
        self.stream = stream
        self._settings = settings
        self._group = group
        self._readings: dict[int, _Reading] = {}
        self._described_late: set[int] = set()
        self._revoked: list[int] = []
        self._in_flight: dict[int, _Fetch] = {}
        self._answers: deque[_Fetch] = deque()
        self._wake = threading.Event()
        self._failing_since: float | None = None
        self._failure: BaseException | None = None
        self._gone_since: float | None = None
        self._topic: _Topic | None = None
        self._looked_at = 0.0
        self._look_again = False
        self._fetch_after = 0.0
        self._reconnected_at = 0.0
        self._closed = False
        self._cluster = _cluster(settings, start=True)
        with self._translated():
            self._connection = _Connection(self._cluster, stream, group, settings)
        try:
            self._require_topic()
        except BaseException:
            self.close()
            raise

    # What the interface promises --------------------------------------------------------------------------------------

    @property
    def knows_lives(self) -> bool:
        """See `StreamSource.knows_lives`: fetches name the topic by its id, where the broker has ids."""
        return self._cluster.embedded is None

    def poll(self, max_records: int, timeout_seconds: float) -> Polled:
        deadline = time.monotonic() + timeout_seconds
        while True:
            with self._translated():
                self._serve_group()
                self._look_at_topic(deadline)
                polled = self._take_changes(deadline)
                self._receive()
                if polled is None:
                    polled = self._take_records(max_records, deadline)
                    self._fetch()
            if polled is not None:
                return polled
            self._check_patience()
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                return Polled()
            pause = RETRY_SECONDS if self._failing_since is not None else IDLE_SECONDS
            self._wake.wait(min(remaining, pause))
            self._wake.clear()

    def seek(self, partition: str, position: int) -> None:
        reading = self._readings.get(int(partition))
        if reading is None:
            raise StreamError(
                f"kafka {self.stream}: partition {partition} is not assigned to this consumer; it has "
                f"{', '.join(map(str, sorted(self._readings))) or 'none'}. Seek once a poll has assigned it."
            )
        self._readings[reading.partition] = _Reading(reading.partition, reading.incarnation, position)

    def commit(self, next_positions: Mapping[str, int]) -> None:
        ours = {int(partition): position for partition, position in next_positions.items()}
        ours = {partition: position for partition, position in ours.items() if partition in self._readings}
        if not ours:
            return
        try:
            self._connection.commit(ours, REQUEST_SECONDS)
        except errors.KafkaError as error:
            # The ledger decides where reading goes on; what Kafka remembers is for those who look at its tools.
            logger.info("kafka %s: positions not committed (%r); the next commit tells them", self.stream, error)

    def lag(self) -> dict[str, Lag]:
        ends = self._asked(lambda timeout: self._connection.end_positions(list(self._readings), timeout))
        return {
            str(partition): Lag(
                records=None if reading.position is None else max(ends[partition] - reading.position, 0),
                end_position=ends[partition],
            )
            for partition, reading in self._readings.items()
            if partition in ends
        }

    def incarnation(self) -> str:
        return self._require_topic().incarnation

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._connection.close()
        except errors.KafkaError as error:
            logger.info("kafka %s: left without a word to the group: %s", self.stream, error)

    # The group --------------------------------------------------------------------------------------------------------

    def _serve_group(self) -> None:
        with self._noting_failure():
            self._connection.serve_group(self._wake.set)

    def _take_changes(self, deadline: float) -> Polled | None:
        """What the group gave and took, and what a topic made anew brought."""
        events = self._connection.events
        while events:
            kind, partitions = events.popleft()
            for partition in partitions:
                self._readings.pop(partition, None)
            if kind == "assigned":
                self._described_late |= partitions
            else:
                self._described_late -= partitions
                self._revoked.extend(sorted(partitions))
        assigned: list[AssignedPartition] = []
        if self._described_late:
            with self._noting_failure():
                assigned = self._describe_assigned(deadline)
        if not assigned and not self._revoked:
            return None
        revoked, self._revoked = self._revoked, []
        return Polled(assigned=assigned, revoked=[str(partition) for partition in revoked])

    def _describe_assigned(self, deadline: float) -> list[AssignedPartition]:
        timeout = _at_least_a_second(deadline)
        topic = self._connection.describe(timeout)
        self._note_topic(topic)
        if topic is None:
            return []
        partitions = sorted(self._described_late & topic.leaders.keys())
        first = self._connection.first_positions(partitions, timeout)
        ends = self._connection.end_positions(partitions, timeout)
        committed = self._connection.committed_positions(partitions, timeout)
        again = self._connection.describe(timeout)
        if again is None or again.incarnation != topic.incarnation:
            self._note_topic(again)
            return []
        self._answered()
        self._described_late -= set(partitions)
        for partition in partitions:
            self._readings[partition] = _Reading(partition, topic.incarnation)
        return [
            AssignedPartition(
                partition=str(partition),
                incarnation=topic.incarnation,
                first_position=first[partition],
                end_position=ends[partition],
                committed_position=committed.get(partition),
            )
            for partition in partitions
        ]

    # The topic --------------------------------------------------------------------------------------------------------

    def _require_topic(self) -> _Topic:
        topic = self._asked(lambda timeout: self._connection.describe(timeout))
        self._note_topic(topic)
        if topic is None:
            raise StreamNotFoundError(
                f"kafka: there is no topic {self.stream!r} in {self._cluster.name}. Create it, or correct its name."
            )
        return topic

    def _look_at_topic(self, deadline: float) -> None:
        """See now and then whether the topic is still the same, and who has its partitions."""
        now = time.monotonic()
        if now - self._looked_at < (RETRY_SECONDS if self._look_again else METADATA_SECONDS):
            return
        self._looked_at = now
        with self._noting_failure():
            self._note_topic(self._connection.describe(_at_least_a_second(deadline)))
            self._look_again = False
            self._answered()
        if self._gone_since is not None and now - self._gone_since > GONE_SECONDS:
            raise StreamNotFoundError(
                f"kafka: topic {self.stream!r} is gone from {self._cluster.name}, for {GONE_SECONDS:.0f} seconds now. "
                "Create it again; its records will be read as those of a new life of the stream."
            )

    def _note_topic(self, topic: _Topic | None) -> None:
        self._looked_at = time.monotonic()
        if topic is None:
            self._gone_since = self._gone_since or time.monotonic()
            return
        self._gone_since = None
        if self._topic is not None and topic.incarnation != self._topic.incarnation:
            logger.warning("kafka %s: the topic was made anew (%s)", self.stream, topic.incarnation)
            self._described_late |= self._readings.keys()
            self._readings.clear()
        self._topic = topic

    # Fetching ---------------------------------------------------------------------------------------------------------

    def _fetch(self) -> None:
        """Ask each node for all its partitions, one question at a time, once nothing of them is left here.

        Never for some of them while others are still being handed out: a node holds back an answer about partitions
        without new records, and those with records would have to wait for it.
        """
        topic = self._topic
        if topic is None or time.monotonic() < self._fetch_after:
            return
        by_node: dict[int, dict[int, tuple[_Reading, int]]] = {}
        busy = set(self._in_flight)
        for partition, reading in self._readings.items():
            node, _ = topic.leaders.get(partition, (-1, -1))
            if reading.has_records:
                busy.add(node)
            elif reading.position is not None and not reading.lost:
                by_node.setdefault(node, {})[partition] = (reading, reading.position)
        for node in by_node.keys() - busy - {-1}:
            asked = by_node[node]
            fetch = _Fetch(node, asked)
            self._in_flight[node] = fetch
            self._connection.fetch(node, self._fetch_request(topic, asked), self._answer_noted(fetch))

    def _fetch_request(self, topic: _Topic, asked: Mapping[int, tuple[_Reading, int]]) -> FetchRequest:
        limit = self._settings.kafka_fetch_bytes
        partitions = [
            FetchRequest.FetchTopic.FetchPartition(
                partition=partition,
                current_leader_epoch=topic.leaders[partition][1],
                fetch_offset=position,
                last_fetched_epoch=reading.leader_epoch,
                partition_max_bytes=limit,
            )
            for partition, (reading, position) in asked.items()
        ]
        name: dict[str, Any] = (
            {"topic": self.stream} if topic.topic_id is None else {"topic": self.stream, "topic_id": topic.topic_id}
        )
        return FetchRequest(
            replica_id=-1,
            max_wait_ms=_milliseconds(FETCH_WAIT_SECONDS),
            min_bytes=1,
            max_bytes=limit,
            isolation_level=IsolationLevel.READ_COMMITTED,
            session_id=0,
            session_epoch=-1,
            topics=[FetchRequest.FetchTopic(partitions=partitions, **name)],
            forgotten_topics_data=[],
            rack_id="",
            max_version=None if topic.topic_id is not None else FETCH_BY_TOPIC_ID - 1,
        )

    def _answer_noted(self, fetch: _Fetch) -> Callable[[FetchResponse | None, BaseException | None], None]:
        def note(answer: FetchResponse | None, error: BaseException | None) -> None:
            fetch.answer, fetch.error = answer, error
            self._answers.append(fetch)
            self._wake.set()

        return note

    def _receive(self) -> None:
        """Give the answers that have come to the partitions that asked."""
        while self._answers:
            fetch = self._answers.popleft()
            if self._in_flight.get(fetch.node) is not fetch:
                continue
            del self._in_flight[fetch.node]
            if fetch.answer is None:
                self._retry()
                with self._noting_failure():
                    raise fetch.error or errors.KafkaConnectionError("no answer")
                continue
            self._answered()
            if fetch.answer.error_code:
                raise errors.for_code(fetch.answer.error_code)(self.stream)
            for topic in fetch.answer.responses:
                for part in topic.partitions:
                    reading, position = fetch.asked[part.partition_index]
                    if self._readings.get(reading.partition) is reading and reading.position == position:
                        self._accept(reading, position, part)

    def _accept(self, reading: _Reading, position: int, part: FetchedPartition) -> None:
        if part.error_code == errors.OffsetOutOfRangeError.errno:
            reading.lost = True
        elif part.error_code in RETRIED_ERRORS:
            self._retry()
        elif part.error_code:
            raise errors.for_code(part.error_code)(self.stream)
        elif part.diverging_epoch is not None and part.diverging_epoch.end_offset >= 0:
            # The broker lost its newest records, ours among them (KIP-320).
            reading.lost, reading.cut_off_at = True, part.diverging_epoch.end_offset
        elif part.records:
            aborted = [
                AbortedTransaction(transaction.producer_id, transaction.first_offset)
                for transaction in part.aborted_transactions or ()
            ]
            with self._corruption_named(reading):
                reading.fetched = RecordBatches(part.records, first_offset=position, aborted=aborted)
                if reading.fetched.is_exhausted:
                    reading.fetched = None
                    raise CorruptRecordsError(f"{len(part.records)} bytes without one whole batch")

    def _retry(self) -> None:
        self._look_again = True
        self._fetch_after = time.monotonic() + RETRY_SECONDS

    def _take_records(self, max_records: int, deadline: float) -> Polled | None:
        """Hand out what was fetched, and tell what is lost."""
        lost: list[PositionLost] = []
        with self._noting_failure():
            lost = self._describe_lost(deadline)
        records: list[PartitionRecords] = []
        remaining = max_records
        for partition, reading in list(self._readings.items()):
            if remaining <= 0:
                break
            taken = self._take(reading, remaining)
            if taken is not None:
                records.append(taken)
                remaining -= len(taken.positions)
                # Whoever was served comes last next time.
                self._readings[partition] = self._readings.pop(partition)
        return Polled(records=records, lost=lost) if records or lost else None

    def _take(self, reading: _Reading, wanted: int) -> PartitionRecords | None:
        parts: list[Records] = []
        missing = wanted
        while missing > 0 and (reading.rest is not None or reading.fetched is not None):
            if reading.rest is None and reading.fetched is not None:
                with self._corruption_named(reading):
                    reading.rest = reading.fetched.take(missing)
                reading.leader_epoch = reading.fetched.leader_epoch
            rest = reading.rest
            if rest is not None:
                part = rest.slice(0, missing)
                parts.append(part)
                missing -= len(part)
                reading.rest = rest.slice(len(part), len(rest)) if len(part) < len(rest) else None
            if reading.rest is not None:
                reading.position = int(reading.rest.offsets[0])
            elif reading.fetched is not None:
                reading.position = reading.fetched.next_offset
                if reading.fetched.is_exhausted:
                    reading.fetched = None
        parts = [part for part in parts if len(part)]
        if not parts or reading.position is None:
            return None
        records = concatenated(parts)
        return PartitionRecords(
            partition=str(reading.partition),
            positions=Column(pa.array(records.offsets)),
            values=Column(records.values),
            keys=Column(records.keys),
            headers=records.headers,
            published_at=Column(pa.array(records.timestamps)),
            next_position=reading.position,
        )

    def _describe_lost(self, deadline: float) -> list[PositionLost]:
        readings = [reading for reading in self._readings.values() if reading.lost]
        if not readings:
            return []
        partitions = [reading.partition for reading in readings]
        timeout = _at_least_a_second(deadline)
        first = self._connection.first_positions(partitions, timeout)
        ends = self._connection.end_positions(partitions, timeout)
        lost = []
        for reading in readings:
            position, end = reading.position, ends[reading.partition]
            if position is None:
                continue
            self._readings[reading.partition] = _Reading(reading.partition, reading.incarnation)
            if reading.cut_off_at is not None:
                end = min(end, reading.cut_off_at)
            lost.append(
                PositionLost(str(reading.partition), reading.incarnation, position, first[reading.partition], end)
            )
        return lost

    # Trouble ----------------------------------------------------------------------------------------------------------

    def _asked(self, ask: Callable[[float], Answer]) -> Answer:
        """The cluster's answer, however often it takes to ask within our patience."""
        while True:
            with self._translated():
                with self._noting_failure():
                    answer = ask(REQUEST_SECONDS)
                    self._answered()
                    return answer
                self._check_patience()
            time.sleep(RETRY_SECONDS)

    def _answered(self) -> None:
        self._failing_since = self._failure = None

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """An answer that did not come is noted, and asked for again; `_check_patience` ends that."""
        try:
            yield
        except (errors.RetriableError, errors.UnknownBrokerIdError, broker.BrokerError) as error:
            self._failure = error
            if self._failing_since is None:
                self._failing_since = self._reconnected_at = time.monotonic()
                logger.info("kafka %s: %s doesn't answer: %r", self.stream, self._cluster.name, error)

    def _check_patience(self) -> None:
        if self._failing_since is None:
            return
        now = time.monotonic()
        patience = self._settings.kafka_patience_seconds
        again_after = EMBEDDED_RECONNECT_SECONDS if self._cluster.embedded is not None else patience / 2
        if now - self._reconnected_at > again_after:
            self._reconnected_at = now
            with self._noting_failure():
                self._reconnect()
        if now - self._failing_since > patience:
            raise StreamUnavailableError(
                f"kafka {self.stream}: {self._cluster.name} has not answered for {now - self._failing_since:.0f} "
                f"seconds (kafka_patience_seconds: {patience:.0f}); last: {self._failure!r}. See that it runs "
                "and try again."
            )

    def _reconnect(self) -> None:
        """Start from the bootstrap servers again: brokers may have other addresses now."""
        cluster = _cluster(self._settings, start=False)
        patience = min(BOOTSTRAP_SECONDS, self._settings.kafka_patience_seconds / 4)
        connection = _Connection(cluster, self.stream, self._group, self._settings, patience_seconds=patience)
        former, self._connection, self._cluster = self._connection, connection, cluster
        self._revoked.extend(sorted(self._readings.keys() | self._described_late))
        self._readings.clear()
        self._described_late.clear()
        self._in_flight.clear()
        with self._noting_failure():
            former.close(timeout_seconds=RETRY_SECONDS)

    @contextmanager
    def _corruption_named(self, reading: _Reading) -> Iterator[None]:
        try:
            yield
        except CorruptRecordsError as error:
            reading.fetched = None
            raise StreamError(
                f"kafka {self.stream}: partition {reading.partition} can't be read at position {reading.position}: "
                f"{error}. If reading it again fails likewise, its log is damaged: move on past it "
                "by resetting the position."
            ) from error

    @contextmanager
    def _translated(self) -> Iterator[None]:
        with _translated(self.stream, self._cluster):
            yield


class KafkaPublisher:
    """Writes to one topic; see `flows.streams.source.Publisher`. Acknowledged by all replicas, in order, once."""

    def __init__(self, settings: Settings, stream: str) -> None:
        self._stream = stream
        self._settings = settings
        self._cluster = _cluster(settings, start=True)
        self._failure: BaseException | None = None
        self._producer: KafkaProducer | None = None

    def ensure_stream(self, partitions: int) -> None:
        with _translated(self._stream, self._cluster):
            if self._cluster.embedded is not None:
                broker.create_topic(*self._cluster.embedded, self._stream, partitions=partitions)
                return
            with _admin(self._settings, self._cluster) as admin:
                try:
                    admin.create_topics(
                        {self._stream: {"num_partitions": partitions, "replication_factor": -1}},
                        timeout_ms=_milliseconds(self._settings.kafka_connect_seconds),
                        wait_for_metadata=True,
                    )
                except errors.TopicAlreadyExistsError:
                    logger.debug("kafka: topic %s is there", self._stream)

    def publish(self, records: OutgoingRecords) -> None:
        with _translated(self._stream, self._cluster):
            producer = self._open()
            send, note = producer.send, partial(self._note, producer)
            # The client wants something to send: a tombstone without a key gets an empty one.
            keys = (
                b"" if key is None and value is None else key
                for key, value in zip(records.keys, records.values, strict=True)
            )
            headers = [(name, value if value is not None else b"") for name, value in records.headers]
            times = records.published_at or repeat(None)
            for key, value, published_at in zip(keys, records.values, times, strict=False):
                send(self._stream, value, key, headers, None, published_at).add_errback(note)
        self._raise_failure()

    def flush(self) -> None:
        producer = self._producer
        if producer is not None:
            try:
                producer.flush(timeout=self._settings.kafka_patience_seconds)
            except errors.KafkaTimeoutError as error:
                self._note(producer, error)
        self._raise_failure()

    def close(self) -> None:
        if self._producer is None:
            return
        try:
            self.flush()
        finally:
            self._abandon()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _open(self) -> KafkaProducer:
        if self._producer is None:
            self._producer = KafkaProducer(
                **self._cluster.options,
                client_id=CLIENT,
                acks="all",
                compression_type=self._settings.kafka_compression or None,
                linger_ms=20,
                batch_size=256 * 1024,
                max_request_size=4 * 1024 * 1024,
                max_block_ms=_milliseconds(self._settings.kafka_patience_seconds),
                delivery_timeout_ms=_milliseconds(self._settings.kafka_patience_seconds),
                request_timeout_ms=_milliseconds(min(30, self._settings.kafka_patience_seconds / 2)),
                metrics_enabled=False,
            )
        return self._producer

    def _abandon(self) -> None:
        """Disconnect; whoever publishes next starts from the bootstrap servers again."""
        producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(errors.KafkaError):
                producer.close(timeout=0)

    def _note(self, producer: KafkaProducer, error: BaseException) -> None:
        # What is said of records of a producer that was abandoned has been said before.
        if producer is self._producer:
            self._failure = self._failure or error

    def _raise_failure(self) -> None:
        failure, self._failure = self._failure, None
        if failure is None:
            return
        self._abandon()
        if isinstance(failure, errors.MessageSizeTooLargeError):
            raise StreamError(
                f"kafka {self._stream}: a record is larger than the topic takes ({failure}). Raise its "
                "max.message.bytes, or publish less in one record."
            ) from failure
        raise StreamUnavailableError(
            f"kafka {self._stream}: {self._cluster.name} did not store every record in time ({failure!r}). Publish "
            "them again; readers recognise repeats by their event id."
        ) from failure


def open_source(settings: Settings, stream: str, *, group: str) -> KafkaSource:
    """A consumer of a topic, in a group that shares its partitions.

    Raises:
        StreamUnavailableError: nobody answers at `kafka_bootstrap_servers`.
        StreamNotFoundError: there is no such topic.
        StreamError: the cluster refuses, e.g. the credentials.
    """
    _quieten()
    return KafkaSource(settings, stream, group)


def open_publisher(settings: Settings, stream: str) -> KafkaPublisher:
    """A producer for a topic, connected when it is first used.

    Raises:
        StreamUnavailableError: the embedded broker doesn't start.
    """
    _quieten()
    return KafkaPublisher(settings, stream)


def _cluster(settings: Settings, *, start: bool) -> _Cluster:
    """Where the settings point to; the embedded broker is started unless it runs (`start`)."""
    if settings.kafka_bootstrap_servers:
        servers = [server.strip() for server in settings.kafka_bootstrap_servers.split(",") if server.strip()]
        options = {"bootstrap_servers": servers, **_security(settings)}
        return _Cluster(options, None, f"the cluster at {settings.kafka_bootstrap_servers}")
    if start:
        try:
            status = services.ensure_running(settings.home, services.BROKER)
        except services.ServiceError as error:
            raise StreamUnavailableError(
                f"kafka: the embedded broker of {settings.home} doesn't run: {error}"
            ) from error
    else:
        status = next(found for found in services.service_status(settings.home) if found.name == services.BROKER)
    address = (status.host, status.port or 0)
    options = {"bootstrap_servers": [f"{address[0]}:{address[1]}"], "api_version": EMBEDDED_VERSION}
    return _Cluster(options, address, f"the embedded broker of {settings.home}")


def _security(settings: Settings) -> dict[str, Any]:
    options: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if settings.kafka_security_protocol.startswith("SASL"):
        password = settings.kafka_sasl_password
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism or "PLAIN",
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": password.get_secret_value() if password is not None else "",
        }
    if settings.kafka_security_protocol.endswith("SSL"):
        key_password = settings.kafka_ssl_key_password
        files = {
            "ssl_cafile": settings.kafka_ssl_ca_file,
            "ssl_certfile": settings.kafka_ssl_certificate_file,
            "ssl_keyfile": settings.kafka_ssl_key_file,
        }
        options |= {name: str(file) for name, file in files.items() if file is not None}
        options |= {"ssl_password": key_password.get_secret_value() if key_password is not None else None}
    return options


@contextmanager
def _admin(settings: Settings, cluster: _Cluster) -> Iterator[KafkaAdminClient]:
    admin = KafkaAdminClient(
        **cluster.options,
        client_id=CLIENT,
        bootstrap_timeout_ms=_milliseconds(settings.kafka_connect_seconds),
    )
    try:
        yield admin
    finally:
        admin.close()


@contextmanager
def _translated(stream: str, cluster: _Cluster) -> Iterator[None]:
    """kafka-python's errors as ours."""
    try:
        yield
    except (errors.RetriableError, broker.BrokerError) as error:
        needed = ", kafka_sasl_username and kafka_sasl_password" if cluster.authenticates else ""
        raise StreamUnavailableError(
            f"kafka {stream}: {cluster.name} doesn't answer: {error!r}. See that it runs and can be reached by "
            f"kafka_security_protocol{needed}."
        ) from error
    except errors.SaslAuthenticationFailedError as error:
        raise StreamError(
            f"kafka {stream}: {cluster.name} refuses our credentials: {error}. Correct kafka_sasl_username, "
            "kafka_sasl_password and kafka_sasl_mechanism."
        ) from error
    except errors.AuthorizationError as error:
        raise StreamError(
            f"kafka {stream}: {cluster.name} doesn't allow this: {error!r}. Grant READ and DESCRIBE on the topic "
            "and READ on the group (WRITE to publish)."
        ) from error
    except errors.KafkaError as error:
        raise StreamError(f"kafka {stream}: {cluster.name} refuses: {error!r}") from error


def _quieten() -> None:
    """kafka-python logs every attempt to reconnect as an error; what matters is raised or logged here."""
    library = logging.getLogger("kafka")
    if library.level == logging.NOTSET:
        library.setLevel(logging.CRITICAL)


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _at_least_a_second(deadline: float) -> float:
    """What is left, but time enough for an answer that is on its way."""
    return min(max(deadline - time.monotonic(), 1.0), REQUEST_SECONDS)
