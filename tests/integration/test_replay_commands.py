"""Replay and what-if by the command line, on real servers and in processes of their own."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest

from samples.data import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import World

LAST = date(2024, 3, 9)
FIRST = LAST - timedelta(days=1)


def land(world: World, name: str) -> None:
    """Land a sample's objects in this world's bucket."""
    for key, data in SAMPLES[name](LAST - timedelta(days=28), LAST):
        world.store.put(key, data)


def replay(world: World, name: str, out: Path, *words: str):
    """Replay the last nights of a sample."""
    return world.ratchet(
        *("replay", name, "--from", str(FIRST), "--to", str(LAST), "--home", str(world.home(name))),
        *("--out", str(out), *words),
    )


def test_replay_in_parallel_is_the_real_nights_and_touches_nothing(world: World, tmp_path: Path) -> None:
    """The nights come out as those run for real afterwards; until then there is neither champion nor record nor ledger."""
    name = "tickets"  # of many classes, the hardest to compare
    land(world, name)
    before = {found.uri for found in world.store.list("")}
    status, found, errors = replay(world, name, tmp_path / "out", "--jobs", "2")
    assert status == 0, errors
    assert {found.uri for found in world.store.list("")} == before
    assert world.ratchet("champion", name, "--home", str(world.home(name)))[1]["version"] is None
    real = [world.night(name, FIRST + timedelta(days=i))[1] for i in range(2)]
    assert [(n["cutoff"], n["outcome"], n["reasons"], n["challenger"]) for n in found["nights"]] == [
        (n["cutoff"], n["outcome"], n["reasons"], n["model_version"]) for n in real
    ]
    assert found["total"]["days"] == 1
    assert found["retraining_saved"].keys() == {"2024-03", "all"}
    html = (tmp_path / "out" / "replay.html").read_text()
    assert "never retraining" in html
    assert "<script" not in html


def test_whatif_lists_the_nights_that_would_flip(world: World, tmp_path: Path) -> None:
    """By the gates of then nothing flips; by a bound that nobody reaches the promotion does, with both reasons."""
    land(world, "churn")
    assert world.night("churn", LAST)[1]["outcome"] == "promoted"
    home, gates = str(world.home("churn")), tmp_path / "gates.yaml"
    gates.write_text("gates:\n  - {kind: bound, metric: auc, at_least: 0.9999, min_rows: 1}\n")
    status, found, errors = world.ratchet("whatif", "churn", "--gates", str(gates), "--home", home)
    assert status == 0, errors
    assert [(n["cutoff"], n["was"], n["would"]) for n in found["flips"]] == [(str(LAST), "PASS", "FAIL")]
    assert found["counts"] == {"PASS → FAIL": 1}


@pytest.mark.parametrize(
    ("text", "says"),
    [("gates: [{kind: bond}]", "did you mean 'bound'"), ("rules: []", "is not a field here"), (None, "cannot be read")],
)
def test_wrong_gates_end_with_status_2_and_in_words(world: World, tmp_path: Path, text: str | None, says: str) -> None:
    """A file of gates that cannot be read or does not hold is refused before anything runs."""
    gates = tmp_path / "gates.yaml"
    if text is not None:
        gates.write_text(text)
    home = str(world.home("churn"))
    for words in (("whatif", "churn"), ("replay", "churn", "--from", str(FIRST), "--to", str(LAST))):
        status, found, errors = world.ratchet(*words, "--gates", str(gates), "--home", home)
        assert (status, found) == (2, {})
        assert says in errors
        assert "gates.yaml" in errors
        assert "Traceback" not in errors
