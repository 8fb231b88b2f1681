"""Nothing that a champion, the ledger, the league, an alias or a kept night refers to is ever planned to be deleted."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.domain.models import ModelVersion
from ratchet.domain.retention import Inventory, Kept, NightFact, TrackedRun, plan

START = date(2024, 1, 1)


def version(number: int) -> ModelVersion:
    """Return the version that the night of a day has made."""
    return ModelVersion(
        version=number,
        run_key=f"{number:04d}" * 16,
        mlflow_run_id=f"run-{number}",
        artifact_digest=f"artifact{number:04d}",
        seen_through=START,
        cutoff=START + timedelta(days=number),
        recipe=f"recipe{number // 7:016d}",
        recipe_spec=f"spec{number // 7:016d}",
    )


def objects_of(made: ModelVersion, digest: str) -> list[str]:
    """Return the keys that one night leaves behind."""
    run, cutoff = made.run_key, made.cutoff
    steps = [f"runs/p/{run}/{name}" for name in ("gate.json", "train.json", "evaluate.json", "predictions.parquet")]
    records = [f"nights/p/{cutoff}/{run[:16]}.json", f"reports/p/{cutoff}/{run[:16]}.html"]
    return [*steps, *records, f"snapshots/p/{digest}.json", f"pins/p/scope/{cutoff}.json"]


def profiles_of(made: ModelVersion) -> list[str]:
    """Return the keys of what a version was trained on."""
    stem = f"profiles/p/{made.cutoff}/{made.artifact_digest}"
    return [f"{stem}.json", f"{stem}-fresh.json"]


@st.composite
def worlds(draw):
    """Return an inventory and its ledger: a version a night, of which some became champion and some were forgotten."""
    count = draw(st.integers(1, 40))
    made = [version(n) for n in range(1, count + 1)]
    share = draw(st.integers(1, 3))  # nights that share a snapshot
    digests = {v.version: f"snap{v.version // share:04d}" for v in made}
    turns = draw(st.lists(st.tuples(st.integers(1, count), st.integers(1, count)), max_size=8))
    entries, previous = [], GENESIS
    for seq, (number, judge) in enumerate(turns, start=1):
        champion = Champion(**made[number - 1].model_dump(include=set(Champion.model_fields)))
        entry = LedgerEntry(
            seq=seq,
            previous=previous,
            pipeline="p",
            action=draw(st.sampled_from(["promote", "refresh", "rollback", "override", "freeze"])),
            champion=champion,
            judged_through=made[judge - 1].cutoff,
            night=made[judge - 1].run_key,
            actor="a",
            reason="r",
            at="2024-01-01T00:00:00+00:00",
        ).sealed()
        entries.append(entry)
        previous = entry.hash
    known = draw(st.sets(st.integers(1, count)))  # nights whose record is still there
    keys = [key for v in made for key in objects_of(v, digests[v.version])]
    keys += [
        f"{kind}/p/dt={v.cutoff}/version={w}.json"
        for kind in ("scores", "evidence")
        for v in made
        for w in (1, 2, v.version)
    ]
    keys += [f"recipes/p/{v.recipe_spec}.json" for v in made] + [f"dry-runs/p/{v.run_key}/gate.json" for v in made]
    keys += [key for v in made for key in profiles_of(v)]
    keys += [f"trials/p/{seq:08d}/{v.recipe[:16]}/{v.cutoff}.json" for v in made for seq in (1, len(entries))]
    keys += [
        f"tuning/p/{key}"
        for v in made
        for key in (f"found/{v.cutoff}-ab.json", f"trials/{v.cutoff}/ab/00000.json", f"runs/{v.cutoff}-ab")
    ]
    keys += [
        "ledger/p/00000001.json",
        "tuning/p/odd",
        "alerts/p/x.json",
        "runs/p/unknown/score.json",
        "snapshots/p/odd",
        "nights/p/odd",
        "profiles/p/odd",
    ]
    found = Inventory(
        versions=tuple(made),
        aliases=tuple(draw(st.sets(st.integers(1, count), max_size=2))),
        runs=tuple(
            TrackedRun(
                run_id=v.mlflow_run_id,
                run_key=v.run_key,
                cutoff=v.cutoff,
                snapshot=digests[v.version],
                dry_run=False,
                running=draw(st.booleans()) and v.version % 5 == 0,
            )
            for v in made
        ),
        nights=tuple(
            NightFact(
                cutoff=v.cutoff,
                run=v.run_key[:16],
                run_key=v.run_key,
                snapshot=digests[v.version],
                recipe_spec=v.recipe_spec,
            )
            for v in made
            if v.version in known
        ),
        pins={f"pins/p/scope/{v.cutoff}.json": digests[v.version] for v in made},
        objects=tuple(Kept(key=key, size=1) for key in dict.fromkeys(keys)),
    )
    knobs = {"versions": draw(st.integers(0, 5)), "days": draw(st.integers(0, 20)), "league": draw(st.integers(0, 9))}
    return found, entries, digests, knobs


@given(worlds())
def test_nothing_that_is_referred_to_is_ever_in_the_plan(world):
    """Champions, judging nights, aliased and newest versions, and recent nights keep everything that they refer to."""
    found, entries, digests, knobs = world
    made = plan(found, entries, **knobs)
    versions = {v.version: v for v in found.versions}
    by_key = {v.run_key: v for v in found.versions}
    newest = sorted(versions, reverse=True)[: max(knobs["versions"], knobs["league"] + 1, 8)]
    recent = [
        v.version
        for v in found.versions
        if v.cutoff >= max(versions[max(versions)].cutoff - timedelta(days=knobs["days"]), START)
    ]
    serving = {e.champion.version for e in entries}
    kept = {*serving, *found.aliases, *newest, *recent}
    assert not kept & set(made.versions)
    judges = {by_key[e.night].version for e in entries}
    gone = {kept.key for kept in made.objects}
    for number in kept | judges:
        assert f"run-{number}" not in made.runs
        assert not gone & set(objects_of(versions[number], digests[number]))
    for number in kept:
        assert f"recipes/p/{versions[number].recipe_spec}.json" not in gone
        assert not any(key.endswith(f"version={number}.json") for key in gone)
        assert not gone & set(profiles_of(versions[number]))
    assert not any(f"run-{r.run_id}" in made.runs for r in found.runs if r.running)
    assert not any(key.split("/")[0] in {"ledger", "alerts"} or "odd" in key or "unknown" in key for key in gone)
    horizon = max(v.cutoff for v in found.versions) - timedelta(days=knobs["days"])
    searches = {
        day: {key for key in gone if key.startswith("tuning/") and str(day) in key}
        for day in (v.cutoff for v in found.versions)
    }
    assert f"tuning/p/found/{max(searches)}-ab.json" not in gone
    assert {day for day, keys in searches.items() if keys} <= {day for day in searches if day < horizon}
    for champion in (e.champion for e in entries):
        assert not any(f"/{champion.recipe[:16]}/" in key for key in gone if key.startswith("trials/"))


@given(worlds())
def test_what_is_left_is_left_again(world):
    """Once the plan is carried out, the next one is empty: nothing refers to what is gone, and nothing is kept by chance."""
    found, entries, _, knobs = world
    made = plan(found, entries, **knobs)
    gone = set(made.objects)
    left = found.model_copy(
        update={
            "versions": tuple(v for v in found.versions if v.version not in made.versions),
            "runs": tuple(r for r in found.runs if r.run_id not in made.runs),
            "objects": tuple(o for o in found.objects if o not in gone),
            "nights": tuple(
                n for n in found.nights if Kept(key=f"nights/p/{n.cutoff}/{n.run}.json", size=1) not in gone
            ),
            "pins": {k: d for k, d in found.pins.items() if Kept(key=k, size=1) not in gone},
        }
    )
    again = plan(left, entries, **knobs)
    assert (again.versions, again.runs, again.objects) == ((), (), ())


def test_what_nothing_needs_goes():
    """Of fifty nights without a champion the newest stay with all that is theirs, and the older go."""
    made = [version(n) for n in range(1, 51)]
    keys = [key for v in made for key in (*objects_of(v, f"snap{v.version}"), *profiles_of(v))]
    found = Inventory(
        versions=tuple(made),
        runs=tuple(
            TrackedRun(
                run_id=v.mlflow_run_id,
                run_key=v.run_key,
                cutoff=v.cutoff,
                snapshot=f"snap{v.version}",
                dry_run=False,
                running=False,
            )
            for v in made
        ),
        nights=tuple(
            NightFact(cutoff=v.cutoff, run=v.run_key[:16], run_key=v.run_key, snapshot=f"snap{v.version}") for v in made
        ),
        pins={f"pins/p/scope/{v.cutoff}.json": f"snap{v.version}" for v in made},
        objects=tuple(Kept(key=key, size=2) for key in keys),
    )
    gone = plan(found, [], versions=10, days=5, league=7)
    assert gone.versions == tuple(range(1, 41))
    assert set(gone.runs) == {f"run-{n}" for n in range(1, 41)}
    old = {key for v in made[:40] for key in (*objects_of(v, f"snap{v.version}"), *profiles_of(v))}
    assert {kept.key for kept in gone.objects} == old
    assert gone.bytes == 2 * len(gone.objects)
