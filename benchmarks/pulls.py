"""What verified pulls cost: `S3Store.fetch` against a bare `download_file` of the same objects from the same server.

``python benchmarks/pulls.py [--rounds 5] [--small 1000] [--large 4]`` starts an S3 server of its own, stores many small
objects and a few large ones, and pulls them by each in turn, into empty folders and over warm connections, in pairs, so
that a machine whose speed drifts does not decide the ratio. Both use eight threads. Then a second night: the same objects
and one new one. It prints medians and ratios, and writes nothing else.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ratchet.adapters.s3 import S3Store
from ratchet.stack import embedded

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from ratchet.domain.snapshots import StoredObject

KIB, MIB = 1 << 10, 1 << 20
THREADS = 8


def main() -> None:
    """Run the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--small", type=int, default=1000, help="objects of 64 KiB")
    parser.add_argument("--large", type=int, default=4, help="objects of 128 MiB")
    args = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="ratchet-pulls-") as folder,
        embedded(Path(folder) / "state", ("s3",)) as stack,
    ):
        os.environ.update(stack.environment)
        for versioned in (False, True):
            store = S3Store(
                stack.environment["RATCHET_S3_ENDPOINT"], f"pulls-{versioned}".lower(), Path(folder) / "cache"
            )
            prepare(store, args.small, args.large, versioned=versioned)
            kind = "bucket with versions" if versioned else "bucket without versions"
            for prefix in ("small/", "large/", ""):
                found = list(store.list(prefix, versions=True))
                print(
                    f"\n{kind}, {prefix.rstrip('/') or 'both'}: {len(found)} objects, {sum(o.size for o in found) / MIB:.0f} MiB"
                )
                compare(store, found, Path(folder), args.rounds, versioned=versioned)
            second_night(store)
            shutil.rmtree(store.cache)


def prepare(store: S3Store, small: int, large: int, *, versioned: bool) -> None:
    """Store what is to be pulled: small objects as a writer of days leaves them, large ones uploaded in parts."""
    if versioned:
        store.ensure_bucket(store.bucket)
    else:
        store.client.create_bucket(Bucket=store.bucket)
    noise = random.Random(7)
    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda n: store.put(f"small/{n:05d}", n.to_bytes(4, "big") * (16 * KIB)), range(small)))
    body = noise.randbytes(MIB)
    with tempfile.NamedTemporaryFile() as file:
        for n in range(large):
            file.seek(0)
            for _ in range(128):
                file.write(bytes([n]) + body[1:])
            file.flush()
            store.client.upload_file(file.name, store.bucket, f"large/{n}")


def compare(store: S3Store, found: Sequence[StoredObject], folder: Path, rounds: int, *, versioned: bool) -> None:
    """Pull by each in turn, and print how fast each was."""
    ways: dict[str, Callable[[], None]] = {
        "ours": lambda: ours(store, found, folder / "ours"),
        "download_file": lambda: bare(store.client, store.bucket, found, folder / "bare"),
    }
    if versioned:  # s3transfer asks for ranges, which this server does not know of versions: it is no fair race
        ways["download_file of versions"] = lambda: bare(
            store.client, store.bucket, found, folder / "bare", versions=True
        )
    took: dict[str, list[float]] = {name: [] for name in ways}
    for n in range(rounds + 1):
        for name in ways if n % 2 else reversed(ways):
            if name == "download_file of versions" and n > 1:
                continue
            started = time.monotonic()
            ways[name]()
            if n:  # the first round warms up
                took[name].append(time.monotonic() - started)
    size = sum(o.size for o in found) / MIB
    for name, seconds in took.items():
        print(f"  {name:<26} median {statistics.median(seconds):6.2f} s, {size / statistics.median(seconds):6.0f} MiB/s, {len(found) / statistics.median(seconds):6.0f} objects/s")  # fmt: skip
    ratios = [theirs / mine for mine, theirs in zip(took["ours"], took["download_file"], strict=True)]
    print(
        f"  ours / download_file       median {statistics.median(ratios):6.2f}, {min(ratios):.2f} to {max(ratios):.2f}"
    )


def ours(store: S3Store, found: Sequence[StoredObject], folder: Path) -> None:
    """Pull into an empty cache, proved and hashed, over connections that are there."""
    made = S3Store(store._endpoint, store.bucket, folder)  # noqa: SLF001
    made.client = store.client
    made.fetch([(one, None) for one in found])
    shutil.rmtree(folder)


def bare(client: Any, bucket: str, found: Sequence[StoredObject], folder: Path, *, versions: bool = False) -> None:
    """Pull as boto3's guide does, eight objects at once."""
    folder.mkdir()

    def one(stored: StoredObject) -> None:
        key = stored.uri.removeprefix(f"s3://{bucket}/")
        extra = {"VersionId": stored.version} if versions else None
        client.download_file(bucket, key, str(folder / key.replace("/", "-")), ExtraArgs=extra)

    with ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(one, found))
    shutil.rmtree(folder)


def second_night(store: S3Store) -> None:
    """Pull everything, then everything and one new object."""
    calls: list[str] = []
    store.client.meta.events.register("before-send.s3.GetObject", lambda request, **_: calls.append(request.url))
    for night in ("first", "second"):
        if night == "second":
            store.put("small/new", b"new")
        found = list(store.list("", versions=True))
        calls.clear()
        started = time.monotonic()
        store.fetch([(one, None) for one in found])
        print(f"  {night} night: {len(found)} objects in {time.monotonic() - started:.2f} s, {len(calls)} requests")


if __name__ == "__main__":
    main()
