"""Kinesis as the local AWS service has it: moto's, mended where it isn't what consumers meet at AWS.

moto 5.2 has no resharding that a consumer could follow: a shard that was split goes on taking records, a merge copies
records, no shard ever ends, and nothing expires. Here:

- A split or merged shard is closed: it keeps its records, takes no more, and its last read says so (no
  NextShardIterator, ChildShards). Its children begin empty.
- Sequence numbers look like AWS's: 56 digits, growing, with gaps, naming their shard; others are refused.
- Iterators end after 5 minutes, and with the stream they were made for.
- Records expire with the stream's retention, closed shards when they have been closed for so long. `trim` makes that
  happen at once.
- ListShards knows ShardFilter; MillisBehindLatest is how far behind now a reader is; a GetRecords brings at most 10 MB.
- Calls don't run into each other, no CloudWatch metrics pile up, and a shard keeps at most 128 MB: what is too much
  expires, the oldest first.
"""

from __future__ import annotations

import base64
import binascii
import json
import threading
import time
from bisect import bisect_left, bisect_right
from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any

from moto.core.exceptions import JsonRESTError
from moto.core.responses import ActionResult
from moto.core.utils import unix_time
from moto.kinesis import models
from moto.kinesis.exceptions import InvalidArgumentError, ResourceNotFoundError
from moto.kinesis.responses import KinesisResponse

ITERATOR_SECONDS = 300.0
MOST_RECORDS = 10_000
MOST_BYTES = 10 * 1024 * 1024
MOST_BYTES_KEPT = 128 * 1024 * 1024
"""Data of a shard. A fifth of it goes at once when it is exceeded, so that this is seldom."""
VERSION = 2
CLOSING_COUNT = 2**63 - 1
"""Count in the sequence number that ends a shard: higher than any record's."""

_lock = threading.RLock()


def sequence_number(created: float, count: int, at: float, shard: int) -> int:
    """A sequence number in the shape of AWS's: when the shard began, a count, the time and the shard, 56 digits."""
    return (1 << 185) | int(created) << 149 | count << 80 | int(at) << 36 | (shard & 0xFFFFFFFF) << 4 | VERSION


def shard_of(number: int) -> int | None:
    """The shard that a sequence number names; None if it can't be one."""
    return (number >> 4) & 0xFFFFFFFF if number >> 185 == 1 and number & 0xF == VERSION else None


class _Record:
    """A record as it is kept: moto's own take several times the memory of their data."""

    __slots__ = ("created_at", "data", "partition_key", "sequence_number")

    def __init__(self, sequence_number: int, partition_key: str, data: bytes) -> None:
        self.sequence_number = sequence_number
        self.partition_key = partition_key
        self.data = data
        self.created_at = time.time()

    def to_json(self) -> dict[str, Any]:
        """As GetRecords says it."""
        return {
            "Data": self.data,
            "PartitionKey": self.partition_key,
            "SequenceNumber": str(self.sequence_number),
            "ApproximateArrivalTimestamp": datetime.fromtimestamp(self.created_at, UTC),
        }


class Shard(models.Shard):
    """A shard whose records stay where they were put until they expire."""

    def __init__(
        self,
        shard_id: int,
        starting_hash: int,
        ending_hash: int,
        parent: str | None = None,
        adjacent_parent: str | None = None,
    ) -> None:
        super().__init__(shard_id, starting_hash, ending_hash, parent, adjacent_parent)
        self.created_at = time.time()
        self.closed_at: float | None = None
        self._count = 0
        self.trimmed_before: float | None = None
        self._numbers: list[int] = []
        self._kept: list[_Record] = []
        self._bytes = 0
        self.starting_number = sequence_number(self.created_at, 0, self.created_at, shard_id)
        self.ending_number: int | None = None

    def close(self) -> None:
        """Take no more records."""
        self.is_open = False
        self.closed_at = time.time()
        self.ending_number = sequence_number(self.created_at, CLOSING_COUNT, self.closed_at, self._shard_id)

    def put_record(self, partition_key: str, data: str, explicit_hash_key: str) -> str:
        """Append, and say the record's sequence number."""
        self._count += 1
        number = sequence_number(self.created_at, self._count, time.time(), self._shard_id)
        self._numbers.append(number)
        record = _Record(number, partition_key, base64.b64decode(data))
        self._kept.append(record)
        self._bytes += len(record.data)
        if self._bytes > MOST_BYTES_KEPT:
            excess, gone = MOST_BYTES_KEPT // 5, 0
            while excess > 0 and gone < len(self._kept) - 1:
                excess -= len(self._kept[gone].data)
                gone += 1
            self._drop(gone)
        return str(number)

    def _drop(self, gone: int) -> None:
        """Forget the oldest records, before their time."""
        self.trimmed_before = self._kept[gone].created_at if gone < len(self._kept) else time.time()
        self._delete(gone)

    def _delete(self, gone: int) -> None:
        self._bytes -= sum(len(record.data) for record in self._kept[:gone])
        del self._kept[:gone], self._numbers[:gone]

    def trim(self, horizon: float) -> None:
        """Forget what arrived before the horizon."""
        if self._kept and self._kept[0].created_at < horizon:
            gone = next((i for i, record in enumerate(self._kept) if record.created_at >= horizon), len(self._kept))
            self._delete(gone)

    def trim_to(self, number: int) -> None:
        """Forget records before that sequence number."""
        gone = bisect_left(self._numbers, number)
        if gone:
            self._drop(gone)

    def get_records(self, last_sequence_id: int, limit: int | None) -> tuple[list[_Record], int, int]:
        """Records after a sequence number, the last one's number, and how many milliseconds are left to now."""
        start = bisect_right(self._numbers, last_sequence_id)
        found: list[_Record] = []
        size = 0
        for record in self._kept[start : start + min(limit or MOST_RECORDS, MOST_RECORDS)]:
            size += len(record.data)
            if found and size > MOST_BYTES:
                break
            found.append(record)
        if start + len(found) == len(self._kept):
            behind = 0
        else:
            behind = max(1, int((time.time() - self._kept[start + len(found)].created_at) * 1000))
        return found, found[-1].sequence_number if found else last_sequence_id, behind

    def is_finished(self, last_sequence_id: int) -> bool:
        """Closed, with nothing left after that number."""
        return not self.is_open and (not self._numbers or self._numbers[-1] <= last_sequence_id)

    def get_max_sequence_number(self) -> int:
        """Of the newest record; of the shard's beginning where there is none."""
        return self._numbers[-1] if self._numbers else self.starting_number

    def get_sequence_number_at(self, at_timestamp: float) -> int:
        """Of the newest record that arrived before that time; of the shard's beginning where there is none."""
        earlier = [record.sequence_number for record in self._kept if record.created_at < at_timestamp]
        return earlier[-1] if earlier else self.starting_number

    def to_json(self) -> dict[str, Any]:
        """As ListShards and DescribeStream say it."""
        answer: dict[str, Any] = super().to_json()
        answer["SequenceNumberRange"] = {"StartingSequenceNumber": str(self.starting_number)}
        if self.ending_number is not None:
            answer["SequenceNumberRange"]["EndingSequenceNumber"] = str(self.ending_number)
        return answer

    def to_child_json(self) -> dict[str, Any]:
        """As the last GetRecords of a parent says it."""
        return {
            "ShardId": self.shard_id,
            "ParentShards": [parent for parent in (self.parent, self.adjacent_parent) if parent],
            "HashKeyRange": {"StartingHashKey": str(self.starting_hash), "EndingHashKey": str(self.ending_hash)},
        }


class Stream(models.Stream):
    """A stream whose shards split, merge and expire."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401
        super().__init__(*arguments, **named)
        self.trimmed_before: float | None = None
        for shard in self.shards.values():
            shard.created_at = unix_time(self.creation_datetime)

    @property
    def life(self) -> str:
        """What its iterators name it by."""
        return f"{unix_time(self.creation_datetime):.6f}"

    def horizon(self) -> float:
        """What arrived before has expired."""
        horizon = time.time() - self.retention_period_hours * 3600
        return max(horizon, self.trimmed_before) if self.trimmed_before is not None else horizon

    def expire(self) -> None:
        """Forget records, and closed shards, that are older than the horizon."""
        horizon = self.horizon()
        for shard in list(self.shards.values()):
            shard.trim(horizon)
            if shard.closed_at is not None and shard.closed_at < horizon:
                del self.shards[shard.shard_id]

    def get_shard_for_key(self, partition_key: str, explicit_hash_key: str) -> Any:  # noqa: ANN401
        """The open shard of a partition key."""
        super().get_shard_for_key(partition_key, explicit_hash_key)  # refuses keys
        key = (
            int(explicit_hash_key)
            if explicit_hash_key
            else int(models.md5_hash(partition_key.encode("utf-8")).hexdigest(), 16)
        )
        return next(s for s in self.shards.values() if s.is_open and s.starting_hash <= key <= s.ending_hash)

    def split_shard(self, shard_to_split: str, new_starting_hash_key: str) -> None:
        """Close a shard and begin two."""
        parent = self._open_shard(shard_to_split)
        split = int(new_starting_hash_key)
        if not parent.starting_hash < split <= parent.ending_hash:
            raise InvalidArgumentError(
                f"NewStartingHashKey {split} used in SplitShard() on shard {shard_to_split} in stream "
                f"{self.stream_name} is not within its hash key range."
            )
        parent.close()
        self._begin(parent.starting_hash, split - 1, parent.shard_id)
        self._begin(split, parent.ending_hash, parent.shard_id)

    def merge_shards(self, shard_to_merge: str, adjacent_shard_to_merge: str) -> None:
        """Close two neighbours and begin one."""
        first, second = self._open_shard(shard_to_merge), self._open_shard(adjacent_shard_to_merge)
        low, high = sorted((first, second), key=lambda shard: shard.starting_hash)
        if low.ending_hash + 1 != high.starting_hash:
            raise InvalidArgumentError(
                f"Shards {shard_to_merge} and {adjacent_shard_to_merge} in stream {self.stream_name} are not adjacent."
            )
        first.close()
        second.close()
        self._begin(low.starting_hash, high.ending_hash, first.shard_id, second.shard_id)

    def to_json_summary(self) -> dict[str, Any]:
        """As DescribeStreamSummary says it. A stream that was trimmed tells the retention that would have done it."""
        answer: dict[str, Any] = super().to_json_summary()
        summary = answer["StreamDescriptionSummary"]
        summary["OpenShardCount"] = sum(shard.is_open for shard in self.shards.values())
        trims = [item.trimmed_before for item in (self, *self.shards.values()) if item.trimmed_before is not None]
        if trims:
            hours = int((time.time() - max(trims)) // 3600)
            summary["RetentionPeriodHours"] = min(self.retention_period_hours, max(hours, 0))
        return answer

    def _open_shard(self, name: str) -> Shard:
        shard: Shard = self.get_shard(name)
        if not shard.is_open:
            raise InvalidArgumentError(
                f"Shard {name} in stream {self.stream_name} has already been merged or split, and thus is not "
                "eligible for merging or splitting."
            )
        return shard

    def _begin(self, low: int, high: int, parent: str, adjacent: str | None = None) -> None:
        number = 1 + max(shard._shard_id for shard in self.shards.values())
        shard = Shard(number, low, high, parent, adjacent)
        self.shards[shard.shard_id] = shard


def _one_at_a_time(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def locked(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401
        with _lock:
            return method(*arguments, **named)

    return locked


class KinesisBackend(models.KinesisBackend):
    """moto's backend with these streams in it."""

    __module__ = models.__name__  # moto finds a service's addresses by the module of its backend

    create_stream = _one_at_a_time(models.KinesisBackend.create_stream)
    put_record = _one_at_a_time(models.KinesisBackend.put_record)
    put_records = _one_at_a_time(models.KinesisBackend.put_records)
    split_shard = _one_at_a_time(models.KinesisBackend.split_shard)
    merge_shards = _one_at_a_time(models.KinesisBackend.merge_shards)
    update_shard_count = _one_at_a_time(models.KinesisBackend.update_shard_count)

    def describe_stream(self, stream_arn: str | None, stream_name: str | None) -> Any:  # noqa: ANN401
        """The stream, without what has expired."""
        with _lock:
            stream = super().describe_stream(stream_arn, stream_name)
            stream.expire()
            return stream

    @_one_at_a_time
    def get_shard_iterator(
        self,
        stream_arn: str | None,
        stream_name: str | None,
        shard_id: str,
        shard_iterator_type: str,
        starting_sequence_number: str | None,
        at_timestamp: Any,  # noqa: ANN401
    ) -> str:
        """A token that names the stream's life, the shard and the number after which it reads."""
        stream = self.describe_stream(stream_arn, stream_name)
        shard = stream.shards.get(shard_id)
        if shard is None:
            raise ResourceNotFoundError(f"Shard {shard_id} in stream {stream.stream_name} does not exist")
        if shard_iterator_type in ("AT_SEQUENCE_NUMBER", "AFTER_SEQUENCE_NUMBER"):
            number = int(starting_sequence_number or 0)
            named = shard_of(number)
            if named is None:
                raise InvalidArgumentError(
                    f"StartingSequenceNumber {number} used in GetShardIterator on shard {shard_id} in stream "
                    f"{stream.stream_name} is invalid."
                )
            if named != shard._shard_id:
                raise InvalidArgumentError(
                    f"Invalid StartingSequenceNumber. It encodes shardId-{named:012}, while it was used in a call to "
                    f"a shard with {shard_id}"
                )
            after = number - 1 if shard_iterator_type == "AT_SEQUENCE_NUMBER" else number
        elif shard_iterator_type == "TRIM_HORIZON":
            after = 0
        elif shard_iterator_type == "LATEST":
            after = shard.get_max_sequence_number()
        elif shard_iterator_type == "AT_TIMESTAMP":
            after = shard.get_sequence_number_at(float(at_timestamp))
        else:
            raise InvalidArgumentError(f"Invalid ShardIteratorType: {shard_iterator_type}")
        return _iterator(stream, shard, after)

    @_one_at_a_time
    def get_records(
        self, stream_arn: str | None, shard_iterator: str, limit: int | None
    ) -> tuple[str | None, list[Any], int]:
        """Records, the next iterator (None: the shard has ended), and the milliseconds to now."""
        stream_name, life, shard_id, after, made_at = _read_iterator(shard_iterator)
        stream = self.describe_stream(stream_arn, stream_name)
        shard = stream.shards.get(shard_id)
        if stream.life != life or shard is None:
            raise ResourceNotFoundError(f"Shard {shard_id} in stream {stream_name} does not exist")
        if time.time() - made_at > ITERATOR_SECONDS:
            raise JsonRESTError("ExpiredIteratorException", "Iterator expired; it is older than 5 minutes.")
        records, last, behind = shard.get_records(after, limit)
        return None if shard.is_finished(last) else _iterator(stream, shard, last), records, behind

    def child_shards(self, shard_iterator: str) -> list[Any]:
        """Of the shard that an iterator reads."""
        stream_name, _, shard_id, _, _ = _read_iterator(shard_iterator)
        stream = self.describe_stream(None, stream_name)
        return [shard for shard in stream.shards.values() if shard_id in (shard.parent, shard.adjacent_parent)]

    def filtered_shards(self, stream_arn: str | None, stream_name: str | None, kind: str, after: str) -> list[Any]:
        """Shards as a ShardFilter of that type asks for."""
        stream = self.describe_stream(stream_arn, stream_name)

        def was_open(shard: Any) -> bool:  # noqa: ANN401
            horizon = max(stream.horizon(), unix_time(stream.creation_datetime), shard.trimmed_before or 0.0)
            return shard.created_at <= horizon and (shard.closed_at is None or shard.closed_at >= horizon)

        chosen: dict[str, Callable[[Any], bool]] = {
            "": lambda shard: True,
            "FROM_TRIM_HORIZON": lambda shard: True,
            "AT_LATEST": lambda shard: shard.is_open,
            "AFTER_SHARD_ID": lambda shard: shard.shard_id > after,
            "AT_TRIM_HORIZON": was_open,
        }
        if kind not in chosen:
            raise InvalidArgumentError(f"The local Kinesis has no ShardFilter of type {kind}.")
        return sorted(filter(chosen[kind], stream.shards.values()), key=lambda shard: shard._shard_id)

    def _send_stream_metrics(self, stream_name: str, incoming_bytes: int, incoming_records: int) -> None:
        """Metrics would only pile up in memory."""


def _iterator(stream: Stream, shard: Shard, after: int) -> str:
    fields = [stream.stream_name, stream.life, shard.shard_id, str(after), time.time()]
    return base64.b64encode(json.dumps(fields).encode()).decode()


def _read_iterator(token: str) -> tuple[str, str, str, int, float]:
    try:
        name, life, shard_id, after, made_at = json.loads(base64.b64decode(token))
    except (ValueError, binascii.Error):
        raise InvalidArgumentError("Invalid ShardIterator.") from None
    return name, life, shard_id, int(after), float(made_at)


def _get_records(self: Any) -> ActionResult:  # noqa: ANN401
    iterator = self._get_param("ShardIterator")
    following, records, behind = self.kinesis_backend.get_records(
        self._get_param("StreamARN"), iterator, self._get_param("Limit")
    )
    answer = {"Records": [record.to_json() for record in records], "MillisBehindLatest": behind}
    if following is None:
        answer["ChildShards"] = [shard.to_child_json() for shard in self.kinesis_backend.child_shards(iterator)]
    else:
        answer["NextShardIterator"] = following
    return ActionResult(answer)


def _list_shards(self: Any) -> ActionResult:  # noqa: ANN401
    """With a NextToken, which names stream, filter and the shard to go on after."""
    token = self._get_param("NextToken")
    most = int(self._get_param("MaxResults", 1000))
    if token:
        name, kind, after, last = json.loads(base64.b64decode(token))
        shards = self.kinesis_backend.filtered_shards(None, name, kind, after)
        shards = [shard for shard in shards if shard.shard_id > last]
    else:
        asked = self._get_param("ShardFilter") or {}
        kind, after = asked.get("Type", ""), asked.get("ShardId", "")
        name = self._get_param("StreamName")
        shards = self.kinesis_backend.filtered_shards(self._get_param("StreamARN"), name, kind, after)
    answer: dict[str, Any] = {"Shards": [shard.to_json() for shard in shards[:most]]}
    if len(shards) > most:
        fields = [name, kind, after, shards[most - 1].shard_id]
        answer["NextToken"] = base64.b64encode(json.dumps(fields).encode()).decode()
    return ActionResult(answer)


def mend() -> None:
    """Put these classes in the place of moto's, in this process. Call it before moto's server is made."""
    models.Shard = Shard
    models.Stream = Stream
    models.kinesis_backends.backend = KinesisBackend
    KinesisResponse.get_records = _get_records
    KinesisResponse.list_shards = _list_shards


def trim(stream_name: str, before: float) -> None:
    """Let everything that arrived before then (seconds since 1970) expire at once.

    Raises:
        KeyError: there is no such stream.
    """
    with _lock:
        stream = _stream(stream_name)
        stream.trimmed_before = before
        stream.expire()


def trim_shard(stream_name: str, shard_id: str, number: int) -> None:
    """Let a shard's records before a sequence number expire at once.

    Raises:
        KeyError: there is no such stream or shard.
    """
    with _lock:
        _stream(stream_name).shards[shard_id].trim_to(number)


def _stream(stream_name: str) -> Stream:
    for account in models.kinesis_backends.values():
        for backend in account.values():
            if stream_name in backend.streams:
                stream: Stream = backend.streams[stream_name]
                return stream
    raise KeyError(stream_name)


def streams() -> OrderedDict[str, int]:
    """Names of the streams there are, with the number of records each holds."""
    with _lock:
        return OrderedDict(
            (name, sum(len(shard._kept) for shard in stream.shards.values()))
            for account in models.kinesis_backends.values()
            for backend in account.values()
            for name, stream in backend.streams.items()
        )
