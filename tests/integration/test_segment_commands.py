"""Segments from the command line, on real servers: a night with a model for each plan, who serves each, and a person who acts on one."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING

import pytest
import yaml

from samples.data import SAMPLES

if TYPE_CHECKING:
    from integration.conftest import World

CUTOFF = date(2024, 3, 9)


@pytest.fixture
def segmented(world: World) -> World:
    """The churn sample, with a model for each of its plans that has rows enough, and few trees."""
    for key, data in SAMPLES["churn"](CUTOFF - timedelta(days=34), CUTOFF):
        world.store.put(key, data)
    file = world.home("churn") / "pipelines" / "churn.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["gates"] = [{"kind": "bound", "metric": "auc", "at_least": 0.5}]
    spec["training"]["rounds"] = 10
    file.write_text(yaml.safe_dump({**spec, "segments": {"by": "plan", "min_rows": 800}}))
    return world


def asked(world: World, command: str, *words: str):
    """Run a command about churn."""
    return world.ratchet(*command.split(), *words, "--home", str(world.home("churn")))


def test_a_night_with_segments_from_end_to_end(segmented: World) -> None:
    """Every plan of rows enough has a champion of its own, which is asked for, frozen and verified by its own name."""
    status, night, err = segmented.night("churn", CUTOFF)
    assert (status, night["outcome"]) == (0, "promoted"), err
    made = night["segments"]
    own = [segment for segment in made["segments"] if segment["serves"] == "own"]
    sparse = [segment for segment in made["segments"] if segment["serves"] == "global"]
    assert own
    assert sparse
    assert sum(s["rows"] for s in made["segments"]) + made["of_none"] == made["rows"]

    status, listed, _ = asked(segmented, "segments", "churn")
    assert (status, listed["own"], listed["failed"]) == (0, len(own), [])
    assert {s["value"]: s["serves"] for s in listed["segments"]} == {s["value"]: s["serves"] for s in made["segments"]}

    first, name = own[0]["value"], own[0]["name"]
    _, served, _ = asked(segmented, "champion", "churn", "--segment", first)
    assert (served["pipeline"], served["version"]) == (name, 1)
    _, served, _ = asked(segmented, "champion", "churn", "--segment", sparse[0]["value"])
    assert (served["pipeline"], served["version"]) == ("churn", 1)

    status, entry, _ = asked(segmented, "freeze", name, "--reason", "hands off")
    assert (status, entry["pipeline"], entry["action"]) == (0, name, "freeze")
    status, audit, _ = asked(segmented, "ledger verify", name)
    assert (status, audit["holds"], audit["entries"]) == (0, True, 2)
    status, history, _ = asked(segmented, "history", name)
    assert [n["outcome"] for n in history["nights"]] == ["promoted"]
    status, then, _ = asked(segmented, "history", name, "--at", "2099-01-01")
    assert (status, then["version"], then["verifies"]) == (0, 1, True)


def test_what_is_no_segment_is_refused_in_words(segmented: World) -> None:
    """A segment has no night apart, an unknown one is named, and a pipeline without segments says so."""
    status, _, err = asked(segmented, "run churn--basic --cutoff 2024-03-09")
    assert (status, "its night belongs to that of all rows; `ratchet run churn`" in err) == (2, True)
    status, _, err = asked(segmented, "segments", "churn")
    assert (status, "no night has run since its spec asks for segments" in err) == (2, True)
    status, _, err = asked(segmented, "champion", "churn", "--segment", "Atlantis")
    assert (status, "has no segment 'Atlantis'" in err) == (2, True)
    status, _, err = asked(segmented, "rollback", "churn--A B", "--reason", "x")
    assert (status, "is no segment's slug" in err) == (2, True)
