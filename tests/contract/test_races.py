"""Many promoters at once, as processes of their own, on a real S3 server: one wins each round, and the others are told."""

from __future__ import annotations

import subprocess
import sys
import uuid
from pathlib import Path

import pytest

from ratchet.adapters.ledger import ObjectLedger

PROMOTERS, ROUNDS = 12, 30


@pytest.fixture
def promoters(s3):
    """Promoters that wait for the first round, and the pipeline that they race for."""
    pipeline = f"p{uuid.uuid4().hex[:12]}"
    program = [sys.executable, str(Path(__file__).with_name("promoter.py")), s3.endpoint, s3.bucket, pipeline]
    started = [
        subprocess.Popen(
            [*program, str(ROUNDS), f"promoter {n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        for n in range(PROMOTERS)
    ]
    yield pipeline, started
    for one in started:
        one.kill()
        one.communicate()


def heard(promoters):
    """Return one line of each."""
    return [one.stdout.readline().strip() for one in promoters]


def told(promoters):
    """Let all of them go on."""
    for one in promoters:
        one.stdin.write("go\n")
        one.stdin.flush()


def test_of_twelve_processes_one_wins_every_round(s3, promoters):
    """Each round has exactly one winner, everybody else is told to have lost, and the chain holds at the end."""
    pipeline, processes = promoters
    winners = []
    for _ in range(ROUNDS):
        assert heard(processes) == ["ready"] * PROMOTERS
        told(processes)
        said = heard(processes)
        assert sorted(said) == ["lost"] * (PROMOTERS - 1) + ["won"]
        winners.append(f"promoter {said.index('won')}")
        told(processes)
    assert [entry.actor for entry in ObjectLedger(s3).entries(pipeline)] == winners
    assert len(set(winners)) > 1, "they did not race"
