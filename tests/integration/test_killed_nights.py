"""A process is killed before each request that writes to a real server: run again, and it is as if nothing had been."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, Any

from machines import DAY, KILLED, NIGHT, Desk, Machine, Place, one_night

from ratchet.steps import turns

if TYPE_CHECKING:
    from datetime import date
    from pathlib import Path

    from ratchet.stack import Embedded

SHARES = 4  # machines at once; each takes every fourth write
Case = dict[str, Any]
NOTHING: Case = {"entries": 0, "keys": []}


def test_a_first_night_killed_before_any_request_is_finished_by_the_next_run(stack: Embedded, tmp_path: Path) -> None:
    """Wherever a first night dies, running it again gives one version, one entry, the alias, and the same bytes."""
    killed, whole = _of_all_shares(Place.fresh(stack, tmp_path, 8), first_nights)
    assert len(killed) > 40
    for case in killed:
        _holds(case, whole)
        assert case["artifact"] == whole["artifact"], case
    assert {case["at_death"] for case in killed} == {0, 1}


def test_a_later_night_killed_before_any_request_is_finished_by_the_next_run(stack: Embedded, tmp_path: Path) -> None:
    """Wherever a night under a champion dies, running it again gives one more version and one more entry."""
    killed, whole = _of_all_shares(Place.fresh(stack, tmp_path, 28), later_nights)
    assert len(killed) > 40
    for case in killed:
        _holds(case, whole)
    assert {case["at_death"] - case["before"] for case in killed} == {0, 1}


def _of_all_shares(place: Place, work: Any) -> tuple[list[Case], Case]:
    """Return the cases of all machines in the order of the writes, and a night that nothing happened to."""
    machines = [Machine(place, work, cache=f"machine-{share}", share=share) for share in range(1, SHARES + 1)]
    cases = sorted((case for machine in machines for case in machine.result()), key=lambda case: case["at"])
    killed = [case for case in cases if case["killed"]]
    assert [case["at"] for case in killed] == list(range(1, len(killed) + 1)), "a write was left out"
    return killed, cases[-1]


def _holds(case: Case, whole: Case) -> None:
    """Check what must hold after any kill."""
    assert case["at_death"] in {case["before"], case["before"] + 1}, case
    assert case["entries"] == case["before"] + 1, case
    for fact in ("outcome", "serves", "alias_follows", "challenger_follows", "anchored", "versions", "unrecorded"):
        assert case[fact] == whole[fact], (fact, case)
    assert case["running"] == [], case
    # A machine that has summarised a file before, for whichever pipeline, does not store it again.
    here, there = ([key for key in made["new"] if not key.startswith("summaries/")] for made in (case, whole))
    assert [key for key in there if key not in here] == [], case
    assert {key for key in here if key not in there} <= {"probes/#/#"}, case


def first_nights(desk: Desk, share: int) -> list[Case]:
    """Kill first nights, each of a pipeline with a bucket of its own, before every fourth write, until one has no such write."""
    return _until_one_lives(desk, share, lambda at: (f"first_{at}", NIGHT, NOTHING))


def later_nights(desk: Desk, share: int) -> list[Case]:
    """Kill the nights of one pipeline, one after the other, before every fourth write, until one has no such write."""
    name = f"later_{share}"
    for before in range(2):  # from the third on, a night scores the champion and its predecessor
        found = desk.fork(look_after_another_run, name=name, cutoff=NIGHT + before * DAY)
    return _until_one_lives(desk, share, lambda at: (name, NIGHT + (2 + at // SHARES) * DAY, found))


def _until_one_lives(desk: Desk, share: int, which: Any) -> list[Case]:
    cases: list[Case] = []
    for at in itertools.count(share, SHARES):
        name, cutoff, before = which(at)
        if before["keys"] and cases:
            before = cases[-1]
        died = desk.fork(killed_night, dies=at, name=name, cutoff=cutoff) == KILLED
        after = desk.fork(look_after_another_run, name=name, cutoff=cutoff)
        cases.append(
            after
            | {
                "at": at,
                "name": re.sub(r"\d+", "#", name),
                "killed": died,
                "before": before["entries"],
                "new": _new(before, after),
            }
        )
        if not died:
            return cases
    raise AssertionError


def killed_night(desk: Desk, name: str, cutoff: date) -> None:
    """Run a night in the pipeline's own bucket, which the first write makes."""
    _own_bucket(desk, name)
    one_night(desk, name, cutoff)


def _own_bucket(desk: Desk, name: str) -> None:
    store: Any = desk.services.store
    store.bucket = f"{desk.place.lake}-{name.replace('_', '-')}"


def _new(before: Case, after: Case) -> list[str]:
    """Return the keys that have come, without what is another for each night: digests, days and numbers."""
    new = [key for key in after["keys"] if key not in before["keys"]]
    return sorted(re.sub(r"[0-9a-f]{16,64}|\d{4}-\d\d-\d\d|\d+", "#", key) for key in new)


def look_after_another_run(desk: Desk, name: str, cutoff: date) -> Case:
    """Run a night to its end; return what the records hold then, and how many entries they held before."""
    _own_bucket(desk, name)
    registry, at_death = desk.services.registry, len(desk.services.ledger.entries(name))
    night = one_night(desk, name, cutoff)
    entries, versions = turns.read(desk.services, name), registry.versions(name)
    serving = entries[-1].champion
    assert serving
    registry.download(serving.mlflow_run_id, serving.artifact_digest, fresh=True)
    keys = [found.uri.split("/", 3)[3] for found in desk.services.store.list("")]
    recorded = {key.split("/")[2] for key in keys if key.endswith("/register.json")}
    client = registry.client  # type: ignore[attr-defined]
    experiment = client.get_experiment_by_name(name).experiment_id
    return {
        "at_death": at_death,
        "entries": len(entries),
        "keys": keys,
        "outcome": night.outcome,
        "artifact": serving.artifact_digest,
        "serves": serving.run_key == night.run_key,
        "alias_follows": registry.alias(name, "champion") == serving.version,
        "challenger_follows": registry.alias(name, "challenger") == serving.version,
        "anchored": registry.anchors(name) == {entry.seq: entry.hash for entry in entries},
        "versions": [version.run_key for version in versions].count(serving.run_key),
        "unrecorded": [version.version for version in versions if version.run_key not in recorded],
        "running": [run.info.run_id for run in client.search_runs([experiment], "attributes.status = 'RUNNING'")],
    }
