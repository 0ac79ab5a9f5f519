"""One contract for both kinds of lake: a folder, and S3 (moto's server on a free port)."""

from __future__ import annotations

import asyncio
import gzip
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.lake import Lake, LakeError, LocalLake, ObjectNotFoundError, S3Lake, check_key, open_lake
from flows.sources.mapping import load_mapping
from flows.sources.staging import stage_file

SOURCES = Path(__file__).resolve().parents[2] / "warehouse" / "sources"
BUCKET = "customer-analytics-tests"


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    lake = s3_lake(endpoint, "")
    lake.s3_bucket().credentials.get_client("s3").create_bucket(
        Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"}
    )
    yield endpoint
    server.stop()


def s3_lake(endpoint: str, prefix: str) -> S3Lake:
    lake = open_lake(
        f"s3://{BUCKET}/{prefix}",
        endpoint_url=endpoint,
        region="eu-west-1",
        access_key_id="testing",
        secret_access_key="testing",
    )
    assert isinstance(lake, S3Lake)
    return lake


@pytest.fixture(params=["local", "s3"])
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    if request.param == "local":
        return open_lake(tmp_path / "lake")
    return s3_lake(request.getfixturevalue("s3_endpoint"), f"{uuid.uuid4().hex}/lake")


def test_what_is_written_is_listed_read_and_deleted(lake: Lake) -> None:
    before = datetime.now(UTC) - timedelta(seconds=5)
    assert list(lake.list()) == []
    assert not lake.exists("staged/a.parquet")
    lake.write_bytes("staged/a.parquet", b"abc")
    (found,) = lake.list()
    assert (found.key, found.size) == ("staged/a.parquet", 3)
    assert before < found.modified_at < datetime.now(UTC) + timedelta(seconds=5)
    assert lake.exists("staged/a.parquet")
    assert not lake.exists("staged")
    assert lake.read_bytes("staged/a.parquet") == b"abc"
    with lake.open("staged/a.parquet") as stream:
        assert stream.read(2) + stream.read(2) + stream.read(2) == b"abc"
    lake.write_bytes("staged/a.parquet", b"abcd")
    (changed,) = lake.list()
    assert (changed.size, changed.etag == found.etag) == (4, False)
    lake.delete("staged/a.parquet")
    lake.delete("staged/a.parquet")
    assert list(lake.list()) == []


def test_listing_is_in_order_of_keys_and_by_prefix(lake: Lake) -> None:
    keys = ["a-b/x", "a.b", "a/b.c", "a/b/c", "a/c", "ab", "b/é", "b/z", "z/y/x"]
    for key in reversed(keys):
        lake.write_bytes(key, key.encode())
    assert [found.key for found in lake.list()] == sorted(keys)
    for prefix in ("a", "a/", "a/b", "a/b/", "ab", "b/", "z/y/x", "nothing", "a/b/c/d"):
        assert [found.key for found in lake.list(prefix)] == sorted(key for key in keys if key.startswith(prefix)), (
            prefix
        )


def test_a_missing_object_is_named(lake: Lake) -> None:
    lake.write_bytes("folder/a", b"")
    for key in ("nothing", "folder", "folder/a/b"):
        with pytest.raises(ObjectNotFoundError, match=f"{key} does not exist"):
            lake.read_bytes(key)


@pytest.mark.parametrize("key", ["", "/a", "a//b", "../a", "a/./b", "a/", "a\0b"])
def test_keys_that_lead_elsewhere_are_refused(key: str, tmp_path: Path) -> None:
    with pytest.raises(LakeError, match="is no key"):
        check_key(key)
    with pytest.raises(LakeError, match="is no key"):
        LocalLake(tmp_path).write_bytes(key, b"x")


def test_a_published_file_replaces_the_old_one_and_scratch_is_left_clean(lake: Lake) -> None:
    lake.write_bytes("a", b"old")
    with lake.scratch() as path:
        path.write_bytes(b"new")
        assert lake.read_bytes("a") == b"old"
        assert [found.key for found in lake.list()] == ["a"]
        lake.publish(path, "a")
    with lake.scratch() as unpublished:
        unpublished.write_bytes(b"never")
    assert not path.exists()
    assert not unpublished.exists()
    assert lake.read_bytes("a") == b"new"
    assert [found.key for found in lake.list()] == ["a"]


def test_large_objects_go_up_whole(lake: Lake) -> None:
    content = bytes(range(256)) * (9 * 4096)
    with lake.scratch() as path:
        path.write_bytes(content)
        lake.publish(path, "large")
    assert lake.read_bytes("large") == content


def test_copies_between_lakes(lake: Lake, tmp_path: Path) -> None:
    other = LocalLake(tmp_path / "other")
    other.write_bytes("x/y", b"abc")
    lake.copy_in(other, "x/y", "copied")
    other.copy_in(lake, "copied", "back")
    assert other.read_bytes("back") == b"abc"
    with pytest.raises(ObjectNotFoundError):
        lake.copy_in(other, "nothing", "b")
    assert not lake.exists("b")


def test_one_lake_serves_many_threads(lake: Lake) -> None:
    together = threading.Barrier(8)

    def write_and_read(number: int) -> bytes:
        together.wait(timeout=60)
        lake.write_bytes(f"t/{number}", str(number).encode())
        return lake.read_bytes(f"t/{number}")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(write_and_read, range(8))) == [str(number).encode() for number in range(8)]


def test_a_lake_works_inside_a_running_event_loop(lake: Lake) -> None:
    async def use() -> bytes:
        lake.write_bytes("a", b"abc")
        return lake.read_bytes("a")

    assert asyncio.run(use()) == b"abc"


def test_addresses(tmp_path: Path, s3_endpoint: str) -> None:
    local, s3 = open_lake(tmp_path), s3_lake(s3_endpoint, "some/prefix/")
    assert (local.url, local.url_of("a/b"), local.local_path("a/b")) == (
        str(tmp_path),
        str(tmp_path / "a/b"),
        tmp_path / "a/b",
    )
    assert (s3.url, s3.url_of("a/b")) == (f"s3://{BUCKET}/some/prefix", f"s3://{BUCKET}/some/prefix/a/b")
    assert s3.local_path("a/b") is None
    assert open_lake(f"file://{tmp_path}").url == str(tmp_path)
    assert "testing" not in repr(s3).replace(BUCKET, "").replace("access_key_id='testing'", "")


@pytest.mark.parametrize(
    ("url", "message"), [("", "is empty"), ("gs://b/p", "of an unknown kind"), ("s3:///p", "names no bucket")]
)
def test_urls_that_are_none_are_refused(url: str, message: str) -> None:
    with pytest.raises(LakeError, match=message):
        open_lake(url)


def test_more_objects_than_a_page_are_listed_lazily_in_order(s3_endpoint: str) -> None:
    lake = s3_lake(s3_endpoint, uuid.uuid4().hex)
    lake.page_keys = 4
    for number in range(14):
        lake.write_bytes(f"k{number:03}", b"")
    listing = lake.list()
    assert [next(listing).key for _ in range(6)] == [f"k{number:03}" for number in range(6)]
    lake.delete("k013")
    assert [found.key for found in listing] == [f"k{number:03}" for number in range(6, 13)]
    assert next(lake.list("k01")).key == "k010"


def test_scratch_of_killed_runs_is_swept_once_it_is_old(tmp_path: Path) -> None:
    lake = LocalLake(tmp_path)
    with lake.scratch() as path:
        assert lake.remove_stale_scratch(timedelta(hours=1)) == 0
        assert path.exists()
        assert lake.remove_stale_scratch(timedelta(seconds=-5)) == 1
        assert not path.exists()


def test_files_are_staged_from_s3_to_s3_as_they_are_on_disk(s3_endpoint: str, tmp_path: Path) -> None:
    root = uuid.uuid4().hex
    landing, remote = s3_lake(s3_endpoint, f"{root}/landing"), s3_lake(s3_endpoint, f"{root}/lake")
    header = b"InvoiceNo,StockCode,Description,Quantity,InvoiceDate,UnitPrice,CustomerID,Country\n"
    rows = b"".join(b'%d,X,"a, b",1,2010-12-01 08:26:00,2.55,,UK\n' % number for number in range(9000))
    landing.write_bytes("small.csv", header + b"1,2,3,4,5,6,7,8\nbroken\n")
    landing.write_bytes("large.csv.gz", gzip.compress(header + rows, compresslevel=0))
    landing.write_bytes("cut.csv.gz", gzip.compress(header + rows)[:-9])
    local = LocalLake(tmp_path / "lake")
    for key, state in (("small.csv", "staged"), ("large.csv.gz", "staged"), ("cut.csv.gz", "refused")):
        results = [
            stage_file(
                landing=landing,
                lake=lake,
                mapping=load_mapping("online_retail", SOURCES),
                entity="order_lines",
                key=key,
                batch_id="run-1",
                ingested_at=datetime(2024, 1, 1, tzinfo=UTC),
                read_block_bytes=1 << 16,
            )
            for lake in (remote, local)
        ]
        assert results[0] == results[1]
        assert results[0].state == state
    keys = [found.key for found in remote.list()]
    assert keys == [found.key for found in local.list()]
    assert all(remote.read_bytes(key) == local.read_bytes(key) for key in keys)
    assert pq.read_table(tmp_path / "lake" / "staged").num_rows == 9001
