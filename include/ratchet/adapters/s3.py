"""Object storage by boto3: any S3 that honours conditional puts."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ratchet.domain import layout
from ratchet.domain.records import digest
from ratchet.domain.snapshots import StoredObject
from ratchet.errors import (
    AlreadyExists,
    ArtifactTampered,
    ConditionalWritesIgnored,
    ObjectChanged,
    ObjectNotFound,
    RatchetError,
    ServiceError,
    ServiceRefused,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

T = TypeVar("T")

_TRIES = 4  # of a body that breaks off half-way, which botocore does not retry
_BACKOFF = 0.2  # seconds, doubled each time
_CHUNK = 1 << 20
_PARALLEL = 8


class S3Store:
    """Fulfils ``ports.ObjectStore``.

    Args:
        endpoint: address of the S3 server; None for AWS itself.
        bucket: the platform's own bucket, created when it is missing.
        cache: folder of the content-addressed local cache.
    """

    def __init__(self, endpoint: str | None, bucket: str, cache: Path) -> None:
        self.endpoint = endpoint or "AWS S3"
        self.bucket = bucket
        self.cache = cache
        self._endpoint = endpoint
        self._probed = False

    @cached_property
    def client(self) -> Any:
        """The boto3 client; built on first use because building it takes a tenth of a second."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=5,
            read_timeout=30,
            max_pool_connections=_PARALLEL * 2,
            retries={"mode": "standard", "max_attempts": _TRIES},
            s3={"addressing_style": "path" if self._endpoint else "auto"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        )
        session = boto3.session.Session()
        region = os.environ.get("AWS_DEFAULT_REGION") or os.environ.get("AWS_REGION") or session.region_name
        return session.client(
            "s3",
            endpoint_url=self._endpoint,
            config=config,
            # a server of one's own has no regions, but signatures need one; AWS is asked where a bucket lies
            region_name=region or ("us-east-1" if self._endpoint else None),
        )

    def list(self, uri: str, *, versions: bool = False) -> Iterator[StoredObject]:
        """See ``ports.ObjectStore.list``."""
        bucket, prefix = self._split(uri)
        operation, field = ("list_object_versions", "Versions") if versions else ("list_objects_v2", "Contents")
        try:
            for page in self._pages(operation, bucket, prefix):
                for item in page.get(field, ()):
                    if versions and not item["IsLatest"]:
                        continue
                    version = item.get("VersionId")
                    yield StoredObject(
                        uri=self._uri(bucket, item["Key"]),
                        size=item["Size"],
                        etag=item["ETag"],
                        version=None if version in {None, "null"} else version,
                        modified=item["LastModified"].astimezone(UTC).isoformat(timespec="seconds"),
                    )
        except ObjectNotFound as exc:
            if bucket != self.bucket:  # ours is made by the first write
                raise ObjectNotFound(f"bucket s3://{bucket}") from exc

    def _pages(self, operation: str, bucket: str, prefix: str) -> Iterator[Mapping[str, Any]]:
        """Yield the pages of a listing; boto3's paginator would not ask again for one that breaks off half-way."""
        uri = self._uri(bucket, prefix)
        after: dict[str, str] = {}
        while True:
            ask = partial(getattr(self.client, operation), Bucket=bucket, Prefix=prefix, **after)
            page = self._whole(uri, ask, doing=f"listing {uri}")
            yield page
            if not page.get("IsTruncated"):
                return
            before = after
            after = {
                asked: page[told]
                for asked, told in (
                    ("ContinuationToken", "NextContinuationToken"),
                    ("KeyMarker", "NextKeyMarker"),
                    ("VersionIdMarker", "NextVersionIdMarker"),
                )
                if page.get(told)
            }
            if after in ({}, before):
                raise ServiceError(
                    "object store", f"listing {uri}", "it says that there is more, and gives the same page"
                )

    def get(self, uri: str) -> bytes:
        """See ``ports.ObjectStore.get``."""
        bucket, key = self._split(uri)

        def read() -> bytes:
            reply = self.client.get_object(Bucket=bucket, Key=key)
            data: bytes = reply["Body"].read()
            return data

        return self._whole(uri, read)

    def put(self, uri: str, data: bytes, content_type: str = "application/json") -> None:
        """See ``ports.ObjectStore.put``."""
        bucket, key = self._split(uri)
        self._with_bucket(
            bucket,
            uri,
            f"writing {uri}",
            lambda: self.client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type),
        )

    def create(self, uri: str, data: bytes, content_type: str = "application/json") -> None:
        """See ``ports.ObjectStore.create``."""
        bucket, key = self._split(uri)

        def write() -> None:
            self.client.put_object(Bucket=bucket, Key=key, Body=data, ContentType=content_type, IfNoneMatch="*")

        doing = f"writing {uri} on condition that it is new"
        for tries in range(1, _TRIES + 1):
            try:
                return self._with_bucket(bucket, uri, doing, write)
            except AlreadyExists:
                # A put whose reply was lost is sent again by botocore and then meets itself.
                with contextlib.suppress(ObjectNotFound):
                    if self.get(uri) != data:
                        raise
                    return None
            time.sleep(
                _BACKOFF * 2**tries
            )  # refused, yet nobody holds the key: another put was under way and has failed
        raise ServiceError("object store", doing, "it conflicts with other writes again and again")

    def probe(self) -> None:
        """See ``ports.ObjectStore.probe``; a store that was found to be good is not asked again."""
        if self._probed:
            return
        uri = f"{layout.probes(datetime.now(UTC).date())}{uuid.uuid4().hex}"
        bucket, key = self._split(uri)
        self.create(uri, b"first")
        try:
            self.create(uri, b"second")
        except AlreadyExists:
            self._probed = True
            return
        finally:
            with _translated(uri, "removing a probe"):
                self.client.delete_object(Bucket=bucket, Key=key)
        raise ConditionalWritesIgnored(self.endpoint)

    def delete(self, uri: str) -> None:
        """See ``ports.ObjectStore.delete``."""
        bucket, key = self._split(uri)
        with contextlib.suppress(ObjectNotFound), _translated(uri, f"deleting {uri}"):
            self.client.delete_object(Bucket=bucket, Key=key)

    def fetch(self, objects: Sequence[tuple[StoredObject, str | None]]) -> Sequence[tuple[Path, str]]:
        """See ``ports.ObjectStore.fetch``."""
        digests = {found: sha or self._seen(found) for found, sha in objects}
        missing = [(found, sha) for found, sha in digests.items() if not (sha and self._cached(sha).is_file())]
        if missing:
            for folder in ("objects", "seen"):
                (self.cache / folder).mkdir(parents=True, exist_ok=True, mode=0o700)
            _ = self.client  # boto3 clients may be shared between threads, but not built by several at once
            with ThreadPoolExecutor(_PARALLEL) as pool:
                pulled = pool.map(lambda item: self._pull(*item), missing)
                digests.update(zip((found for found, _ in missing), pulled, strict=True))
        return [(self._cached(str(digests[found])), str(digests[found])) for found, _ in objects]

    def _cached(self, sha: str) -> Path:
        return self.cache / "objects" / sha

    def _note(self, found: StoredObject) -> Path:
        return self.cache / "seen" / digest(found.model_dump(exclude={"modified"}))

    def _seen(self, found: StoredObject) -> str | None:
        """Return the sha256 of an object version that was pulled before; versions and ETags do not change their bytes."""
        try:
            return self._note(found).read_text()
        except FileNotFoundError:
            return None

    def _pull(self, found: StoredObject, expected: str | None) -> str:
        """Bring one object version into the cache and return its sha256."""
        bucket, key = self._split(found.uri)
        which = {"VersionId": found.version} if found.version else {"IfMatch": found.etag}

        def read() -> str:
            body = self.client.get_object(Bucket=bucket, Key=key, **which)["Body"]
            seen, size = hashlib.sha256(), 0
            handle, name = tempfile.mkstemp(dir=self._cached(""), prefix=".pull-")
            try:
                with os.fdopen(handle, "wb") as out:
                    for chunk in body.iter_chunks(_CHUNK):
                        out.write(chunk)
                        seen.update(chunk)
                        size += len(chunk)
                if size != found.size:
                    raise ObjectChanged(found.uri, f"{found.size} bytes", f"{size} bytes")
                if expected and seen.hexdigest() != expected:
                    raise ArtifactTampered(found.uri, expected, seen.hexdigest())
                Path(name).replace(self._cached(seen.hexdigest()))
                self._note(found).write_text(seen.hexdigest())
            finally:
                Path(name).unlink(missing_ok=True)
            return seen.hexdigest()

        return self._whole(found.uri, read, found)

    def _whole(self, uri: str, read: Callable[[], T], found: StoredObject | None = None, doing: str = "") -> T:
        """Read a body, and again when it breaks off half-way: botocore retries requests, not bodies."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        for tries in range(1, _TRIES + 1):
            try:
                with _translated(uri, doing or f"reading {uri}", found):
                    return read()
            except (ServiceError, ArtifactTampered) as exc:
                broken = isinstance(exc.__cause__, BotoCoreError | HTTPError | OSError) or isinstance(
                    exc, ObjectChanged | ArtifactTampered
                )
                if tries == _TRIES or not broken or (isinstance(exc, ObjectChanged) and exc.__cause__ is not None):
                    raise
                time.sleep(_BACKOFF * 2**tries)
        raise AssertionError  # the last try either returned or raised

    def _with_bucket(self, bucket: str, uri: str, doing: str, write: Callable[[], object]) -> None:
        """Write, and make the platform's own bucket first where it is missing."""
        try:
            with _translated(uri, doing):
                write()
        except ObjectNotFound as exc:
            if bucket != self.bucket:
                raise ObjectNotFound(f"bucket s3://{bucket}") from exc
            self.ensure_bucket(bucket)
            with _translated(uri, doing):
                write()

    def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket that keeps versions, unless there is one of that name."""
        for tries in range(1, _TRIES + 1):
            with _translated(f"s3://{bucket}", f"creating bucket {bucket}"):
                if self._there(bucket) or self._made(bucket):
                    return
            time.sleep(_BACKOFF * 2**tries)  # another process was faster, and may not be done yet
        raise ServiceError("object store", f"creating bucket {bucket}", "it conflicts with others again and again")

    def _there(self, bucket: str) -> bool:
        """Say whether a bucket exists; to ask for this one alone needs no right to list them all."""
        from botocore.exceptions import ClientError

        try:
            self.client.head_bucket(Bucket=bucket)
        except ClientError as exc:
            if exc.response["ResponseMetadata"]["HTTPStatusCode"] != 404:  # noqa: PLR2004
                raise
            return False
        return True

    def _made(self, bucket: str) -> bool:
        """Create a bucket that keeps versions; False when another process is at it."""
        from botocore.exceptions import ClientError

        region = self.client.meta.region_name
        place = {} if region in {None, "us-east-1", "aws-global"} else {"LocationConstraint": region}
        try:
            self.client.create_bucket(Bucket=bucket, **({"CreateBucketConfiguration": place} if place else {}))
        except ClientError as exc:
            code = exc.response["Error"].get("Code")
            if code == "OperationAborted":
                return False
            if code != "BucketAlreadyOwnedByYou":
                raise
        self.client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
        return True

    def _split(self, uri: str) -> tuple[str, str]:
        """Return bucket and key."""
        if not uri.startswith("s3://"):
            return self.bucket, uri
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return bucket, key

    def _uri(self, bucket: str, key: str) -> str:
        return f"s3://{bucket}/{key}"


@contextlib.contextmanager
def _translated(uri: str, doing: str, found: StoredObject | None = None) -> Iterator[None]:
    """Turn botocore's errors into ours."""
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError  # noqa: PLC0415

    try:
        yield
    except ClientError as exc:
        raise _of_reply(uri, doing, found, exc.response) from exc
    except (BotoCoreError, HTTPError, OSError) as exc:
        raise ServiceError("object store", doing, exc) from exc


def _of_reply(uri: str, doing: str, found: StoredObject | None, reply: Any) -> RatchetError:
    status, code = reply["ResponseMetadata"]["HTTPStatusCode"], reply["Error"].get("Code", "")
    if status == 404 or code in {"NoSuchKey", "NoSuchVersion", "NoSuchBucket"}:  # noqa: PLR2004
        return ObjectNotFound(uri, found.version if found else None)
    if status == 412 and found:  # noqa: PLR2004  the ETag that was pinned is no longer the newest
        return ObjectChanged(uri, f"ETag {found.etag}", "another")
    if status in {409, 412}:
        return AlreadyExists(uri)
    message = f"{code} ({status}): {reply['Error'].get('Message', '')}"
    return (ServiceRefused if status < 500 else ServiceError)("object store", doing, message)  # noqa: PLR2004
