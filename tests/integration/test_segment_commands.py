"""Segments from the command line, on real servers: a night with a model for each plan, who serves each, and a person who acts on one."""

from __future__ import annotations

import io
from datetime import date, timedelta
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from samples.data import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from integration.conftest import World

CUTOFF = date(2024, 3, 9)


@pytest.fixture
def segmented(world: World) -> World:
    """The churn sample with a model for each of its plans that has rows enough, and few trees.

    In half of the plans those stay who would leave elsewhere, so that models of one plan beat one of all.
    """
    for key, data in SAMPLES["churn"](CUTOFF - timedelta(days=34), CUTOFF):
        world.store.put(key, _turned(data))
    file = world.home("churn") / "pipelines" / "churn.yaml"
    spec = yaml.safe_load(file.read_text())
    spec["gates"] = [{"kind": "bound", "metric": "auc", "at_least": 0.5}]
    spec["training"] |= {"rounds": 10, "params": {"max_depth": 2, "eta": 0.4}}
    spec["evaluation"] = {"baselines": ["average"]}
    file.write_text(yaml.safe_dump({**spec, "segments": {"by": "plan", "min_rows": 800}}))
    return world


def _turned(data: bytes) -> bytes:
    """Return a day's rows with the labels of half of the plans the other way round."""
    table = pq.read_table(io.BytesIO(data))
    other = [value in {"Básico", "it's fine", "プロ", " padded "} for value in table["Plan Name"].to_pylist()]
    left = [was != turn for was, turn in zip(table["left"].to_pylist(), other, strict=True)]
    out = io.BytesIO()
    pq.write_table(table.set_column(table.column_names.index("left"), "left", pa.array(left)), out)
    return out.getvalue()


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


def test_a_file_of_rows_of_all_segments_is_scored(segmented: World, tmp_path: Path) -> None:
    """Each row is scored by who serves its segment, and the file says by whom; what cannot be is refused in words."""
    status, night, err = segmented.night("churn", CUTOFF)
    assert (status, night["outcome"]) == (0, "promoted"), err
    serves = {s["value"]: s["name"] if s["serves"] == "own" else "churn" for s in night["segments"]["segments"]}
    ((_, data),) = SAMPLES["churn"](CUTOFF, CUTOFF)
    raw = pq.read_table(io.BytesIO(data)).drop_columns(["left", "left_on"])
    raw = raw.append_column("dt", pa.array([CUTOFF] * raw.num_rows))
    pq.write_table(raw, tmp_path / "rows.parquet")
    words = ("--rows", str(tmp_path / "rows.parquet"), "--out", str(tmp_path / "scored.parquet"))
    status, told, err = asked(segmented, "score churn", *words)
    assert (status, told["scored"]) == (0, raw.num_rows), err
    scored = pq.read_table(tmp_path / "scored.parquet")
    plans = raw["Plan Name"].to_pylist()
    assert scored["model"].to_pylist() == [serves.get(plan, "churn") for plan in plans]
    assert len(set(scored["model"].to_pylist())) == len(told["models"]) > 1
    assert scored["segment"].to_pylist() == plans
    status, told, _ = asked(segmented, "score churn", *words[:2])
    assert [row["prediction"] for row in told["predictions"]] == scored["prediction"].to_pylist()

    pq.write_table(raw.drop_columns(["calls"]), tmp_path / "rows.parquet")
    status, _, err = asked(segmented, "score churn", *words)
    assert (status, "churn version 1: table 'rows' lacks calls" in err) == (3, True)
    status, _, err = asked(segmented, "score churn--basic", *words)
    assert (status, "it is a segment; ask for churn" in err) == (2, True)


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
