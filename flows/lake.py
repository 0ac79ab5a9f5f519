"""The lake, and the landing zone: objects under a folder or under `s3://bucket/prefix`, behind one small protocol.

Keys are relative to the root, with `/` between parts, on either kind. A key appears whole or not at all: writes go to a
scratch file first and are published in one step.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from prefect_aws import S3Bucket

SCRATCH_FOLDER = ".scratch"
"""Folder beneath a local root for files that are being written; never listed."""

_STREAM_CHUNK = 1024 * 1024


class LakeError(RuntimeError):
    """The lake cannot do what was asked; the message names the URL and the next step."""


class ObjectNotFoundError(LakeError, FileNotFoundError):
    """There is no object under the key."""


@dataclass(frozen=True, order=True)
class LakeObject:
    """One object, as a listing shows it."""

    key: str
    """Relative to the root, `/` between parts."""
    size: int
    """Bytes."""
    etag: str
    """Changes whenever the bytes may have: S3's own tag; locally made of size and modification time."""
    modified_at: datetime
    """When it was last written, UTC."""


class Lake(Protocol):
    """What landing and lake can do. Instances may be shared between threads."""

    url: str
    """The root, as given: a folder's absolute path or `s3://bucket/prefix`."""

    def list(self, prefix: str = "") -> Iterator[LakeObject]:
        """Objects whose key begins with `prefix`, sorted by key (by code point), fetched page by page."""

    def open(self, key: str) -> BinaryIO:
        """The object's bytes as a stream to read once from start to end; close it.

        Raises:
            ObjectNotFoundError: there is no such object.
        """

    def read_bytes(self, key: str) -> bytes:
        """The whole object.

        Raises:
            ObjectNotFoundError: there is no such object.
        """

    def write_bytes(self, key: str, content: bytes) -> None:
        """Writes an object from memory; readers see the old one or the new one, never a part."""

    def scratch(self) -> contextlib.AbstractContextManager[Path]:
        """A path on this machine to write a file to before `publish`; what is left there at the end is removed."""

    def publish(self, path: Path, key: str) -> None:
        """Moves a finished local file (from `scratch`) to its key, in one step."""

    def copy_in(self, source: Lake, source_key: str, key: str) -> None:
        """Copies an object of another lake here, unchanged, streaming."""

    def exists(self, key: str) -> bool:
        """Whether there is an object under the key."""

    def delete(self, key: str) -> None:
        """Removes an object; nothing happens where there is none."""

    def remove_stale_scratch(self, older_than: timedelta) -> int:
        """Removes what killed runs left half-written, if it was last touched longer ago than this; returns how many."""

    def url_of(self, key: str) -> str:
        """The object's full address: a path or `s3://bucket/prefix/key`."""

    def local_path(self, key: str) -> Path | None:
        """Where the object lies on this machine's disk; None where it is elsewhere."""


def open_lake(
    url: str | Path,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    access_key_id: str | None = None,
    secret_access_key: str | None = None,
    block: str = "",
) -> Lake:
    """The lake at a folder or an `s3://bucket/prefix`. Nothing is created or contacted before it is used.

    Args:
        url: a folder, `file:///folder`, or `s3://bucket/prefix`.
        endpoint_url: of an S3-compatible store; None for AWS.
        region: AWS region; None leaves it to the AWS configuration.
        access_key_id, secret_access_key: None leaves credentials to the AWS configuration (profile, role, environment).
        block: name of a saved Prefect `S3Bucket` block whose credentials are used instead; needs a Prefect API.

    Raises:
        LakeError: the URL is of another kind.
    """
    text = str(url)
    if text.startswith("s3://"):
        parts = urlsplit(text)
        if not parts.netloc:
            raise LakeError(f"lake URL {text!r} names no bucket; expected s3://bucket/prefix")
        return S3Lake(
            bucket=parts.netloc,
            prefix=parts.path.strip("/"),
            endpoint_url=endpoint_url,
            region=region,
            access_key_id=access_key_id,
            secret_access_key=secret_access_key,
            block=block,
        )
    if text.startswith("file://"):
        text = urlsplit(text).path
    elif "://" in text:
        raise LakeError(f"lake URL {text!r} is of an unknown kind; expected a folder or s3://bucket/prefix")
    if not text:
        raise LakeError("the lake URL is empty; expected a folder or s3://bucket/prefix")
    return LocalLake(Path(text))


def check_key(key: str) -> str:
    """The key itself, if it is one: relative, `/` between parts, no empty or dot parts.

    Raises:
        LakeError: it is none; the message shows it.
    """
    parts = key.split("/")
    if not key or any(part in ("", ".", "..") for part in parts) or "\0" in key:
        raise LakeError(
            f"{key!r} is no key; expected parts separated by '/', relative to the root, e.g. staged/a.parquet"
        )
    return key


class LocalLake:
    """A folder."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.url = str(self.root)

    def list(self, prefix: str = "") -> Iterator[LakeObject]:
        """See `Lake.list`. Holds one folder's names at a time."""
        folder, _, _ = prefix.rpartition("/")
        start = self.root / folder if folder else self.root
        if start.is_dir():
            yield from self._walk(start, f"{folder}/" if folder else "", prefix)

    def _walk(self, folder: Path, base: str, prefix: str) -> Iterator[LakeObject]:
        with os.scandir(folder) as entries:
            # A folder sorts as if its name ended in "/", as its keys do.
            named = sorted((entry.name + "/" if entry.is_dir() else entry.name, entry) for entry in entries)
        for name, entry in named:
            key = base + name
            if not (key.startswith(prefix) or prefix.startswith(key)) or (not base and name == f"{SCRATCH_FOLDER}/"):
                continue
            if name.endswith("/"):
                yield from self._walk(Path(entry.path), key, prefix)
                continue
            try:
                status = entry.stat()
            except FileNotFoundError:
                continue  # taken away since the folder was read
            yield LakeObject(
                key=key,
                size=status.st_size,
                etag=f"{status.st_size:x}-{status.st_mtime_ns:x}",
                modified_at=datetime.fromtimestamp(status.st_mtime, UTC),
            )

    def open(self, key: str) -> BinaryIO:
        """See `Lake.open`."""
        try:
            return self._path(key).open("rb", buffering=0)
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise ObjectNotFoundError(f"{self.url_of(key)} does not exist") from None

    def read_bytes(self, key: str) -> bytes:
        """See `Lake.read_bytes`."""
        with self.open(key) as stream:
            return stream.read()

    def write_bytes(self, key: str, content: bytes) -> None:
        """See `Lake.write_bytes`."""
        with self.scratch() as path:
            path.write_bytes(content)
            self.publish(path, key)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `Lake.scratch`."""
        folder = self.root / SCRATCH_FOLDER
        folder.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=folder)
        os.close(handle)
        path = Path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def publish(self, path: Path, key: str) -> None:
        """See `Lake.publish`. The bytes are on the disk before the name is."""
        target = self._path(key)
        target.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        path.chmod(0o644)
        path.replace(target)

    def copy_in(self, source: Lake, source_key: str, key: str) -> None:
        """See `Lake.copy_in`."""
        with self.scratch() as path:
            _stream_to(path, source, source_key)
            self.publish(path, key)

    def exists(self, key: str) -> bool:
        """See `Lake.exists`."""
        return self._path(key).is_file()

    def delete(self, key: str) -> None:
        """See `Lake.delete`."""
        self._path(key).unlink(missing_ok=True)

    def url_of(self, key: str) -> str:
        """See `Lake.url_of`."""
        return str(self._path(key))

    def local_path(self, key: str) -> Path | None:
        """See `Lake.local_path`."""
        return self._path(key)

    def remove_stale_scratch(self, older_than: timedelta) -> int:
        """See `Lake.remove_stale_scratch`."""
        folder = self.root / SCRATCH_FOLDER
        if not folder.is_dir():
            return 0
        removed = 0
        oldest = time.time() - older_than.total_seconds()
        for path in folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    removed += 1
        return removed

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)


@dataclass
class S3Lake:
    """`s3://bucket/prefix`, through prefect-aws: its `S3Bucket` block holds bucket, folder and credentials.

    Works without a Prefect server: the block is made in memory unless a saved one is named.
    """

    bucket: str
    prefix: str = ""
    endpoint_url: str | None = None
    region: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)
    block: str = ""
    page_keys: int = 1000
    """Keys asked for at a time when listing; 1,000 is S3's most."""
    url: str = field(init=False)
    _client: Any = field(default=None, init=False, repr=False)
    _connecting: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False)

    def __post_init__(self) -> None:
        self.url = f"s3://{self.bucket}/{self.prefix}" if self.prefix else f"s3://{self.bucket}"

    def s3_bucket(self) -> S3Bucket:
        """The Prefect block for this root; usable in flows on its own."""
        from prefect_aws import AwsCredentials, S3Bucket
        from prefect_aws.client_parameters import AwsClientParameters
        from pydantic import SecretStr

        if self.block:
            saved: Any = S3Bucket.load(self.block, _sync=True)  # type: ignore[call-arg]
            return S3Bucket(bucket_name=self.bucket, bucket_folder=self.prefix, credentials=saved.credentials)
        secret = SecretStr(self.secret_access_key) if self.secret_access_key else None
        credentials = AwsCredentials(
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=secret,
            region_name=self.region,
            aws_client_parameters=AwsClientParameters(endpoint_url=self.endpoint_url),
        )
        return S3Bucket(bucket_name=self.bucket, bucket_folder=self.prefix, credentials=credentials)

    def list(self, prefix: str = "") -> Iterator[LakeObject]:
        """See `Lake.list`. S3 answers in order of keys."""
        paginator = self._s3().get_paginator("list_objects_v2")
        cut = len(self.prefix) + 1 if self.prefix else 0
        pages = paginator.paginate(
            Bucket=self.bucket, Prefix=self._full(prefix), PaginationConfig={"PageSize": self.page_keys}
        )
        for page in pages:
            for found in page.get("Contents", []):
                if found["Key"].endswith("/"):
                    continue  # what consoles write to show an empty folder
                yield LakeObject(
                    key=found["Key"][cut:],
                    size=found["Size"],
                    etag=found["ETag"].strip('"'),
                    modified_at=found["LastModified"].astimezone(UTC),
                )

    def open(self, key: str) -> BinaryIO:
        """See `Lake.open`."""
        client = self._s3()
        try:
            body: BinaryIO = client.get_object(Bucket=self.bucket, Key=self._full(check_key(key)))["Body"]
        except client.exceptions.NoSuchKey:
            raise ObjectNotFoundError(f"{self.url_of(key)} does not exist") from None
        return body

    def read_bytes(self, key: str) -> bytes:
        """See `Lake.read_bytes`."""
        with self.open(key) as stream:
            return stream.read()

    def write_bytes(self, key: str, content: bytes) -> None:
        """See `Lake.write_bytes`. S3 shows an object only once it is complete."""
        self._s3().put_object(Bucket=self.bucket, Key=self._full(check_key(key)), Body=content)

    @contextlib.contextmanager
    def scratch(self) -> Iterator[Path]:
        """See `Lake.scratch`."""
        handle, name = tempfile.mkstemp(prefix="customer-analytics-")
        os.close(handle)
        path = Path(name)
        try:
            yield path
        finally:
            path.unlink(missing_ok=True)

    def publish(self, path: Path, key: str) -> None:
        """See `Lake.publish`. Large files go up in parts, which S3 joins when the last has come."""
        self._s3().upload_file(Filename=str(path), Bucket=self.bucket, Key=self._full(check_key(key)))

    def copy_in(self, source: Lake, source_key: str, key: str) -> None:
        """See `Lake.copy_in`."""
        with self.scratch() as path:
            _stream_to(path, source, source_key)
            self.publish(path, key)

    def exists(self, key: str) -> bool:
        """See `Lake.exists`."""
        from botocore.exceptions import ClientError

        try:
            self._s3().head_object(Bucket=self.bucket, Key=self._full(check_key(key)))
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] == 404:
                return False
            raise
        return True

    def delete(self, key: str) -> None:
        """See `Lake.delete`."""
        self._s3().delete_object(Bucket=self.bucket, Key=self._full(check_key(key)))

    def remove_stale_scratch(self, older_than: timedelta) -> int:
        """See `Lake.remove_stale_scratch`. Scratch lies in the system's temporary folder, which cleans itself."""
        return 0

    def url_of(self, key: str) -> str:
        """See `Lake.url_of`."""
        return f"s3://{self.bucket}/{self._full(check_key(key))}"

    def local_path(self, key: str) -> Path | None:
        """See `Lake.local_path`."""
        check_key(key)
        return None

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _s3(self) -> Any:  # noqa: ANN401 - boto3 clients have no static type
        with self._connecting:
            if self._client is None:
                # The client is safe to share between threads; the block's methods are not used for reading and writing
                # because they answer with a coroutine wherever an event loop happens to run.
                self._client = self.s3_bucket().credentials.get_client("s3")
            return self._client


def _stream_to(path: Path, source: Lake, source_key: str) -> None:
    with source.open(source_key) as stream, path.open("wb") as target:
        shutil.copyfileobj(stream, target, _STREAM_CHUNK)


def key_name(key: str) -> str:
    """The last part of a key."""
    return PurePosixPath(key).name
