"""What boto3 raises, in our words, and how often it is tried again."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from ratchet.errors import AlreadyExists, ObjectChanged, ObjectNotFound, RatchetError, ServiceError, ServiceRefused

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.domain.snapshots import StoredObject

TRIES = 4  # of a body that breaks off half-way, which botocore does not retry
BACKOFF = 0.2  # seconds, doubled each time


@contextlib.contextmanager
def translated(uri: str, doing: str, found: StoredObject | None = None) -> Iterator[None]:
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
