"""Object storage by boto3: any S3 that honours conditional puts."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor, as_completed
from datetime import UTC, datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

from ratchet.adapters import s3_proof
from ratchet.adapters.s3_errors import BACKOFF, TRIES, translated
from ratchet.adapters.s3_pull import Puller, version_id
from ratchet.domain import layout
from ratchet.domain.snapshots import StoredObject
from ratchet.errors import AlreadyExists, ConditionalWritesIgnored, ObjectCorrupt, ObjectNotFound, ServiceError
from ratchet.local_cache import LocalCache, full_disk_rejects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

T = TypeVar("T")

_PARALLEL = 8


class S3Store:
    """Fulfils ``ports.ObjectStore``.

    Args:
        endpoint: address of the S3 server; None for AWS itself.
        bucket: the platform's own bucket, created when it is missing.
        cache: folder of the content-addressed local cache.
        cap: bytes that the cache may hold; None for as many as its disk does.
        md5_etags: whether ETags are MD5s where they look like it; some stores make them up.
        patience: seconds without a byte after which a request or a body has stalled.
    """

    def __init__(
        self,
        endpoint: str | None,
        bucket: str,
        cache: Path,
        *,
        cap: int | None = None,
        md5_etags: bool = True,
        patience: float = 30,
    ) -> None:
        self.endpoint = endpoint or "AWS S3"
        self.bucket = bucket
        self.cache = cache
        self.patience = patience
        self._cache = LocalCache(cache, cap)
        self._tidied = False
        self._md5_etags = md5_etags
        self._endpoint = endpoint
        self._probed = False

    @cached_property
    def client(self) -> Any:
        """The boto3 client; built on first use because building it takes a tenth of a second."""
        import boto3
        from botocore.config import Config

        config = Config(
            connect_timeout=5,
            read_timeout=self.patience,
            max_pool_connections=_PARALLEL * 2,
            retries={"mode": "standard", "max_attempts": TRIES},
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
            page = self._whole(uri, ask, f"listing {uri}")
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
            proof = s3_proof.proof(reply, parts=None, md5_etags=self._md5_etags)
            if proof:
                proof.update(data)
                if wrong := proof.wrong():
                    raise ObjectCorrupt(uri, *wrong, remedy=proof.remedy)
            return data

        return self._whole(uri, read, f"reading {uri}")

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
        for tries in range(1, TRIES + 1):
            try:
                return self._with_bucket(bucket, uri, doing, write)
            except AlreadyExists:
                # A put whose reply was lost is sent again by botocore and then meets itself.
                with contextlib.suppress(ObjectNotFound):
                    if self.get(uri) != data:
                        raise
                    return None
            time.sleep(
                BACKOFF * 2**tries
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
            with translated(uri, "removing a probe"):
                self.client.delete_object(Bucket=bucket, Key=key)
        raise ConditionalWritesIgnored(self.endpoint)

    def delete(self, uri: str) -> None:
        """See ``ports.ObjectStore.delete``."""
        bucket, key = self._split(uri)
        with contextlib.suppress(ObjectNotFound), translated(uri, f"deleting {uri}"):
            self.client.delete_object(Bucket=bucket, Key=key)

    def fetch(self, objects: Sequence[tuple[StoredObject, str | None]]) -> Sequence[tuple[Path, str]]:
        """See ``ports.ObjectStore.fetch``.

        Raises:
            DataRejected: ``resource``, when the disk is full.
        """
        if not objects:
            return []
        self._cache.prepare()
        versions = [(version_id(found), found, sha) for found, sha in objects]
        shas = {version: sha or self._cache.seen(version) for version, _, sha in versions}
        held = self._held({sha for sha in shas.values() if sha})
        missing = {
            shas[version] or version: (version, found, shas[version])
            for version, found, _ in versions
            if shas[version] not in held
        }
        if missing or not self._tidied:
            with full_disk_rejects(self.cache, "what was pulled"):
                self._cache.make_room(sum(found.size for _, found, _ in missing.values()))
            self._tidied = True
        if missing:
            shas.update(self._pull([*missing.values()]))
        return [(self._cache.path(sha), sha) for version, _, _ in versions if (sha := shas[version])]

    def _held(self, shas: set[str]) -> set[str]:
        """Return what is in the cache, and is what it should be."""
        held = [*self._cache.claim([*shas])]
        with ThreadPoolExecutor(_PARALLEL) as pool:
            return {sha for sha, whole in zip(held, pool.map(self._cache.whole, held), strict=True) if whole}

    def _pull(self, missing: Sequence[tuple[str, StoredObject, str | None]]) -> dict[str, str]:
        """Pull in parallel, the largest first; the first that fails ends the others."""
        stop = threading.Event()
        puller = Puller(self.client, self._cache, patience=self.patience, md5_etags=self._md5_etags, stop=stop)
        ordered = sorted(missing, key=lambda item: -item[1].size)
        with ThreadPoolExecutor(_PARALLEL) as pool:
            pulls = {version: pool.submit(puller.pull, found, sha) for version, found, sha in ordered}
            try:
                for done in as_completed(pulls.values()):
                    done.result()
            except BaseException:
                stop.set()
                pool.shutdown(cancel_futures=True)
                raise
        return {version: pull.result() for version, pull in pulls.items()}

    def _whole(self, uri: str, read: Callable[[], T], doing: str) -> T:
        """Read a body, and again when it breaks off half-way or comes damaged: botocore retries requests, not bodies."""
        from botocore.exceptions import BotoCoreError
        from urllib3.exceptions import HTTPError  # noqa: PLC0415

        for tries in range(1, TRIES + 1):
            try:
                with translated(uri, doing):
                    return read()
            except ServiceError as exc:
                broken = isinstance(exc.__cause__, BotoCoreError | HTTPError | OSError)
                if tries == TRIES or not (broken or isinstance(exc, ObjectCorrupt)):
                    raise
                time.sleep(BACKOFF * 2**tries)
        raise AssertionError  # the last try either returned or raised

    def _with_bucket(self, bucket: str, uri: str, doing: str, write: Callable[[], object]) -> None:
        """Write, and make the platform's own bucket first where it is missing."""
        try:
            with translated(uri, doing):
                write()
        except ObjectNotFound as exc:
            if bucket != self.bucket:
                raise ObjectNotFound(f"bucket s3://{bucket}") from exc
            self.ensure_bucket(bucket)
            with translated(uri, doing):
                write()

    def ensure_bucket(self, bucket: str) -> None:
        """Create a bucket that keeps versions, unless there is one of that name."""
        for tries in range(1, TRIES + 1):
            with translated(f"s3://{bucket}", f"creating bucket {bucket}"):
                if self._there(bucket) or self._made(bucket):
                    return
            time.sleep(BACKOFF * 2**tries)  # another process was faster, and may not be done yet
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
