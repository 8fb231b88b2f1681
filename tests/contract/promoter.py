"""A promoter as a process of its own: it races the others for the next entry of a ledger, round after round.

Started as ``promoter.py ENDPOINT BUCKET PIPELINE ROUNDS NAME``. A line on standard input starts a round; for each it writes one
line on standard output: ``won``, ``lost``, or what went wrong.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from pathlib import Path

from ratchet.adapters.ledger import ObjectLedger
from ratchet.adapters.s3 import S3Store
from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.errors import AlreadyExists

DAY = date(2024, 1, 10)


def following(entries: tuple[LedgerEntry, ...], pipeline: str, who: str) -> LedgerEntry:
    """Return the entry by which this promoter would win."""
    head = entries[-1] if entries else None
    champion = Champion(version=1, run_key=who, artifact_digest="d", cutoff=DAY, seen_through=DAY, mlflow_run_id="r")
    return LedgerEntry(
        seq=len(entries) + 1,
        previous=head.hash if head else GENESIS,
        pipeline=pipeline,
        action="promote" if head else "bootstrap",
        champion=champion,
        judged_through=DAY,
        actor=who,
        reason="",
        at=datetime.now(UTC).isoformat(timespec="seconds"),
    )


def main(endpoint: str, bucket: str, pipeline: str, rounds: str, who: str) -> None:
    """Race."""
    ledger = ObjectLedger(S3Store(endpoint, bucket, Path()))
    ledger.entries(pipeline)
    for number in range(int(rounds)):
        entry = following(ledger.entries(pipeline), pipeline, who)
        said = "ready" if entry.seq == number + 1 else f"round {number + 1} found {entry.seq - 1} entries"
        print(said, flush=True)  # noqa: T201
        sys.stdin.readline()
        try:
            ledger.append(entry)
        except AlreadyExists:
            said = "lost"
        except Exception as exc:  # noqa: BLE001  the test shows it
            said = repr(exc)
        else:
            said = "won"
        print(said, flush=True)  # noqa: T201
        sys.stdin.readline()


if __name__ == "__main__":
    main(*sys.argv[1:])
