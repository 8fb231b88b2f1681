"""Every version gets a card: what it is, what it was made of, how good it is, and where that is not known."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pyarrow.parquet as pq
import pytest
from segment_world import SEGMENTED, both, landed
from small_world import NIGHT, SPEC, World

from ratchet.domain import layout
from ratchet.domain.cards import markdown
from ratchet.domain.night import Night
from ratchet.errors import ActionRefused
from ratchet.steps.card import card
from ratchet.steps.explain_row import explain_row, model, row_of_night
from ratchet.steps.versions import known

NEXT = NIGHT + timedelta(days=1)


def section(found, key):
    return next(s for s in found.sections if s.key == key)


def told(found, key):
    """Return all of a section's text."""
    return json.dumps(section(found, key).model_dump(), ensure_ascii=False)


def test_a_card_holds_what_is_on_record(reigning):
    """Purpose, owner, data, digests, metrics with intervals, slices, verdict, and the command that builds it again."""
    (version,) = reigning.registry.versions("small")
    (key,) = reigning.store.keys(layout.nights("small"))
    night = Night.model_validate_json(reigning.store.get(key))
    found = card(reigning.services, "small")
    assert (found.version, found.summary) == (1, "Which rows are hot?")
    assert found.status.startswith("champion: serves since")
    details, training = dict(section(found, "details").facts), dict(section(found, "training").facts)
    assert details["Owner"] == "tests"
    assert details["Artifact (sha256)"] == version.artifact_digest
    assert training["Snapshot (sha256)"] == night.snapshot.digest
    assert training["Hold-out"] == "2024-03-06 … 2024-03-08"
    account, features = section(found, "training").tables
    assert ("hold-out: evaluated on", "120") in account.rows
    assert [row[0] for row in features.rows] == ["x", "z", "place"]
    assert dict(section(found, "use").facts)["Not known when it is asked, so never used"] == "y"
    metrics = {row[0]: row for row in section(found, "metrics").tables[0].rows}
    assert metrics["auc"][1] == f"{night.evaluate.challenger['auc']:.4f}"
    assert " … " in metrics["auc"][2]
    assert "fewer than 100 rows of north, south" in told(found, "limits")
    assert {row[0] for row in section(found, "slices").tables[0].rows} == {"north", "south"}
    assert "auc ≥ 0.6" in told(found, "verdict")
    assert "PASS" in told(found, "verdict")
    assert section(found, "again").code == "ratchet reproduce small 1"
    assert night.spec_digest in told(found, "again")


def test_a_card_tells_whom_its_version_was_compared_with(reigning):
    """The baselines with their loss beside its own, those that must be beaten, and of a second version the champion of that night."""

    def beside(version):
        found = section(card(reigning.services, "small", version), "metrics")
        (table,) = [table for table in found.tables if table.title == "Beside the champion and baselines"]
        return {row[0]: dict(zip(table.columns, row, strict=True)) for row in table.rows}

    reigning.land(NEXT)
    second = reigning.night(NEXT)
    first = beside(1)
    assert set(first) == {"average", "recent 7", "linear"}
    must = "Must be beaten"
    assert [first[name][must] == "yes" for name in ("average", "recent 7", "linear")] == [True, False, False]
    assert {(row["Loss"], row["Days"]) for row in first.values()} == {("log_loss", "3")}
    now = beside(second.register_.version.version)
    champion = now["champion of that night"]
    assert set(now) == {"champion of that night", *first}
    paired = second.evaluate.case.paired["log_loss"]
    assert champion["Days"] == str(len(paired))
    assert champion["Its own"] == f"{sum(d.champion for d in paired) / len(paired):.4f}"
    assert champion["This version's, same rows"] == f"{sum(d.challenger for d in paired) / len(paired):.4f}"
    assert champion[must] == "by the gates that name it"
    days = second.evaluate.case.baselines["linear"]["log_loss"]
    assert now["linear"]["Its own"] == f"{sum(d.baseline for d in days) / len(days):.4f}"


def test_its_limits_are_said(world):
    """Seasons outside of the window, slices with few rows, texts that training never met, and missing values."""
    world.land(NIGHT, place=["east"] * 10 + ["north"] * 30, z=[None] * 40)
    world.night()
    points = section(card(world.services, "small"), "limits").points
    (season,) = [p for p in points if p.startswith("It has never met a day in")]
    assert "January" in season
    assert "March" not in season
    assert "It was judged on 3 days: what happens seldom was hardly among them." in points
    assert any(
        p.startswith("place: 10 of 120 rows of the hold-out have a text that training never met") for p in points
    )


def test_the_night_keeps_its_card(reigning):
    """In the store as a page, and with the MLflow run as Markdown too, beside the explanation."""
    version = reigning.registry.versions("small")[0]
    run = reigning.registry.runs[version.mlflow_run_id]
    assert {"card.html", "card.md", "explanation.json"} <= run.files.keys()
    assert run.files["card.md"].decode() == markdown(card(reigning.services, "small"))
    assert run.tags["ratchet.card"] == "card.html"
    assert reigning.store.get(layout.card("small", version.run_key)) == run.files["card.html"]


def test_who_served_since_is_said(reigning):
    """A card that is gathered later knows who came after; the one that was kept says what was known that night."""
    for i in (1, 2):
        reigning.land(NIGHT + timedelta(days=i))
    pipeline = reigning.pipeline(training__rounds=20)
    reigning.gated({"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 10})
    pipeline = reigning.pipeline()
    night = reigning.night(NEXT, pipeline=pipeline)
    assert night.outcome == "promoted"
    old = card(reigning.services, "small", 1)
    assert old.status.startswith("served from ")
    assert "ledger entries 1 to 2" in old.status
    new = card(reigning.services, "small")
    assert new.version == 2
    assert "champion v1" in told(new, "explanation")
    assert "no worse" not in told(new, "verdict")
    assert section(new, "metrics").tables[1].title == "Paired, on the same rows"


def test_a_night_that_is_run_again_keeps_its_card(reigning):
    """Whatever has happened since: what it says is what was known that night."""
    key = layout.card("small", reigning.registry.versions("small")[0].run_key)
    before = reigning.store.get(key)
    reigning.gated({"kind": "bound", "metric": "auc", "at_least": 0.5, "min_rows": 10})
    reigning.land(NEXT)
    assert reigning.night(NEXT).promote.version == 2
    reigning.spec = SPEC
    reigning.night(NIGHT)
    assert reigning.store.get(key) == before
    assert b"champion: serves since" in before
    assert card(reigning.services, "small", 1).status.startswith("served from")


def test_a_refused_version_has_a_card_too(world):
    """That never served, with the check that refused it."""
    world.gated({"kind": "bound", "metric": "auc", "at_least": 0.9999, "min_rows": 10})
    assert world.night().outcome == "refused"
    found = card(world.services, "small")
    assert found.status == "never served: no entry of the ledger names it"
    assert "FAIL" in told(found, "verdict")
    assert world.store.keys("runs/")[0].endswith("card.html")


def test_a_dry_run_makes_no_card(world):
    """There is no version that it could be of."""
    world.night(dry_run=True)
    assert not [key for key in world.store.keys("") if "card" in key]
    with pytest.raises(ActionRefused, match="no version was registered yet"):
        card(world.services, "small")


@pytest.mark.parametrize(
    ("lost", "key", "words"),
    [
        ("nights/", "training", "No record of the night that made it is left"),
        ("nights/", "verdict", "No verdict is on record"),
        ("recipes/", "use", "What it is for is not on record any more"),
        ("runs/", "explanation", "What it looks at"),
    ],
)  # fmt: skip
def test_what_is_not_on_record_is_said(reigning, lost, key, words):
    """A card of an old version tells what is left, and of the rest that it is not known."""
    for name in reigning.store.keys(lost):
        reigning.store.lose(name)
    found = card(reigning.services, "small", 1)
    assert words in told(found, key)
    assert markdown(found)


def test_a_night_of_before_has_a_card(reigning):
    """Records without an explanation, an account or the maker's facts are read as they are."""
    (key,) = reigning.store.keys(layout.nights("small"))
    record = json.loads(reigning.store.get(key))
    del record["evaluate"]["explanation"], record["train"]["account"], record["made_by"]
    reigning.store.put(key, json.dumps(record).encode())
    for name in reigning.store.keys("runs/"):
        reigning.store.lose(name)
    found = card(reigning.services, "small")
    assert "has left no explanation" in told(found, "explanation")
    assert "is not on record" in told(found, "limits")
    assert dict(section(found, "details").facts)["Code"] == "not on record"


def test_an_artifact_that_is_gone_leaves_a_card(reigning):
    """Or one that was tampered with: a card is no place to find that out, nor a reason to have none."""
    reigning.registry.tamper(reigning.registry.versions("small")[0].mlflow_run_id)
    found = card(reigning.services, "small")
    assert "x" not in [row[0] for table in section(found, "training").tables for row in table.rows]
    assert dict(section(found, "use").facts)["Predicts"] == "binary of: y"


def test_a_segments_model_has_a_card_of_its_own(tmp_path):
    """By the segment's name, from its own night, its own ledger and its own explanation."""
    world = landed(World(tmp_path, SEGMENTED))
    both(world)
    found = card(world.services, "small--north")
    assert (found.pipeline, found.version) == ("small--north", 1)
    assert found.status.startswith("champion")
    assert "rows of one value of place alone" in told(found, "factors")
    assert {row[0] for row in section(found, "slices").tables[0].rows} == {"north"}
    assert section(found, "again").code == "ratchet reproduce small--north 1"
    asked = known(world.services, "small--north", None, "explanation")
    files = model(world.services, asked)
    key = next(key for key in world.store.keys("runs/small--north/") if key.endswith("predictions.parquet"))
    row = pq.read_table(io.BytesIO(world.store.get(key))).to_pylist()[0]
    features, words = row_of_night(world.services, "small--north", asked, files, row["row_id"])
    made = explain_row(world.services, "small--north", asked, files, features, words)
    assert made.prediction == row["challenger"]
    assert {p.value for p in made.parts if p.name == "place"} == {"north"}
