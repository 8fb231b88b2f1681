"""Whole nights in process: what they decide, what they leave, and that they are the same night when run again."""

from __future__ import annotations

import threading
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pytest
from small_world import FIRST, NIGHT, ROWS, SPEC, QuickTrainer, World, partition

from ratchet.domain.checks import Outcome
from ratchet.domain.night import STEPS, NightRequest
from ratchet.errors import ArtifactTampered, ConditionalWritesIgnored, LedgerBroken
from ratchet.ports import Tried
from ratchet.steps.history import nights
from ratchet.steps.night import begin
from ratchet.steps.score import DayScore

NEXT = NIGHT + timedelta(days=1)
WEAK = {"training__rounds": 1, "training__params__eta": 0.01}


def identity(night):
    """Return what two runs of one night must have in common."""
    return night.snapshot.digest, night.run_key, night.train.artifact_digest, night.gate.verdict


def test_the_first_model_is_promoted_by_its_absolute_gates(world):
    """Without a champion the bound and the smoke test decide, and the ledger calls it the bootstrap."""
    night = world.night()
    (entry,) = world.entries
    assert night.outcome == "promoted"
    assert night.gate.verdict.bootstrap
    assert (entry.action, entry.champion.run_key, entry.actor) == ("bootstrap", night.run_key, "tests")
    assert world.champion == entry.champion.version == 1
    assert world.store.contents(night.report.page)
    assert nights(world.services, "small")[0].outcome == "promoted"


def test_the_same_night_again_does_nothing_twice(world):
    """The second run has the same identity, and leaves one version and one ledger entry; nothing is validated again."""
    first, batches = world.night(), world.validator.batches
    again = world.night()
    assert identity(again) == identity(first)
    assert again.outcome == "promoted"
    assert len(world.registry.versions("small")) == len(world.entries) == 1
    assert world.validator.batches == batches


def test_the_same_night_is_made_again_byte_for_byte(world):
    """With every record of the run wiped and on another machine, the same bytes and the same verdict come out."""
    first = world.night()
    for key in world.store.keys("runs/") + world.store.keys("evidence/"):
        world.store.lose(key)
    again = world.night(services=world.machine("elsewhere"))
    assert identity(again)[:3] == identity(first)[:3]
    assert len(world.registry.versions("small")) == len(world.entries) == 1


def test_another_store_with_the_same_bytes_gives_the_same_night(world, tmp_path):
    """Snapshot digest, run key, model bytes and verdict depend on the data alone, not on the store that holds it."""
    other = World(tmp_path / "other", versioned=False).land_all()
    assert identity(other.night()) == identity(world.night())


def test_the_next_night_follows(reigning):
    """A challenger that is no worse becomes champion with the next entry, and the champion has scored the new day before."""
    reigning.land(NEXT)
    night = reigning.night(NEXT)
    assert night.outcome == "promoted"
    assert [e.champion.version for e in reigning.entries] == [1, 2]
    assert reigning.champion == 2
    assert night.snapshot.difference.added == (f"rows/dt={NEXT}/part.parquet",)
    assert night.validate_.checked == 1
    assert reigning.store.keys(f"evidence/small/dt={NEXT}/") == [f"evidence/small/dt={NEXT}/version=1.json"]


def test_a_worse_model_is_refused(reigning):
    """A challenger that is clearly worse on days that neither has seen is refused, with the figures; the champion stays."""
    reigning.land(NEXT)
    night = reigning.night(NEXT, pipeline=reigning.pipeline(**WEAK))
    assert night.outcome == "refused"
    assert any("no worse than the champion" in reason for reason in night.reasons)
    assert (reigning.champion, len(reigning.entries)) == (1, 1)
    assert reigning.registry.alias("small", "challenger") == 2


def test_a_model_of_noise_is_refused(tmp_path):
    """Labels that have nothing to do with the rows give a model below the bound, and no champion."""
    world = World(tmp_path)
    for i in range((NIGHT - FIRST).days + 1):
        day = FIRST + timedelta(days=i)
        world.land(day, y=np.random.default_rng(i).random(ROWS) > 0.5)
    night = world.night()
    assert night.outcome == "refused"
    assert world.entries == ()
    assert world.champion is None


def test_too_few_partitions_are_skipped(tmp_path):
    """With fewer days than the spec asks for the night is skipped visibly, and it is recorded."""
    world = World(tmp_path).land_all(FIRST + timedelta(days=2))
    night = world.night(FIRST + timedelta(days=3))
    assert night.outcome == "skipped"
    assert "3 days of data under s3://lake/rows/" in night.reasons[0]
    assert "min_partitions is 4" in night.reasons[0]
    assert [n.outcome for n in nights(world.services, "small")] == ["skipped"]


def test_too_few_rows_are_skipped(world):
    """With fewer labelled rows to fit on than the spec asks for the night is skipped."""
    night = world.night(pipeline=world.pipeline(window__min_rows=1000))
    assert night.outcome == "skipped"
    assert "too_few_rows: 120 labelled rows" in night.reasons[0]
    assert "have no label" not in night.reasons[0]


def test_rows_without_labels_are_counted_where_too_few_are_left(world):
    """Where nothing has a label yet, the night says that it is labels that are missing, not rows."""
    night = world.night(pipeline=world.pipeline(target__sql="CASE WHEN id < 0 THEN y END"))
    assert night.outcome == "skipped"
    assert "of 320 rows in the window 320 have no label" in night.reasons[0]


def test_days_without_labels_are_skipped(tmp_path):
    """A hold-out without a single label decides nothing."""
    world = World(tmp_path)
    for i in range((NIGHT - FIRST).days + 1):
        day = FIRST + timedelta(days=i)
        world.land(day, **({"y": pa.nulls(ROWS, pa.bool_())} if NIGHT - day < timedelta(days=3) else {}))
    night = world.night()
    assert night.outcome == "skipped"
    assert "empty_holdout" in night.reasons[0]
    assert world.entries == ()


def rejected(world, reason, *words, cutoff=NIGHT, **options):
    """Run a night that must be rejected, and check that nothing has changed."""
    before = world.state()
    night = world.night(cutoff, **options)
    assert night.outcome == "rejected", night.reasons
    assert night.ended.reason == reason
    assert all(word in night.ended.detail for word in words), night.ended.detail
    after = world.state()
    assert {k: after[k] for k in ("ledger", "champion", "versions", "challenger")} == {
        k: before[k] for k in ("ledger", "champion", "versions", "challenger")
    }
    assert night.report
    return night


def test_stale_data_is_rejected(reigning):
    """When the newest partition is older than allowed the night is rejected, with both dates."""
    rejected(reigning, "stale", str(NIGHT), "max_age_days allows 1", cutoff=NIGHT + timedelta(days=3))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (partition(NEXT)[:-40], "corrupt"),
        (partition(NEXT)[:40] + b"\xff" * 200 + partition(NEXT)[240:], "corrupt"),
        (b"PAR1 not really", "corrupt"),
        (b"", "empty"),
        (partition(NEXT, rows=0), "empty"),
    ],
)
def test_a_broken_file_is_rejected_by_name(reigning, data, reason):
    """A truncated, overwritten or empty file rejects the night, and its key is named."""
    reigning.land(NEXT, data)
    rejected(reigning, reason, f"rows/dt={NEXT}/part.parquet", cutoff=NEXT)


def test_a_rejected_night_is_mended_by_landing_the_file_again(reigning):
    """Nothing of a rejected night stands in the way of the same night with a whole file."""
    reigning.land(NEXT, partition(NEXT)[:-40])
    rejected(reigning, "corrupt", cutoff=NEXT)
    reigning.land(NEXT)
    assert reigning.night(NEXT).outcome == "promoted"
    assert len(reigning.entries) == 2


def test_an_object_overwritten_after_the_pin_is_read_as_it_was(world):
    """A night that is run again reads the pinned versions, also on another machine, and comes to the same model."""
    first = world.night()
    world.land(NIGHT, partition(NIGHT, rows=77))
    for key in world.store.keys("runs/"):
        world.store.lose(key)
    again = world.night(services=world.machine("elsewhere"))
    assert again.snapshot.reused
    assert identity(again)[:3] == identity(first)[:3]


def test_an_object_overwritten_without_versions_is_told(tmp_path):
    """Where the bucket keeps no versions, a night whose pinned bytes are gone is rejected instead of reading others."""
    world = World(tmp_path, versioned=False).land_all()
    world.night()
    world.land(NIGHT, partition(NIGHT, rows=77))
    for key in world.store.keys("runs/"):
        world.store.lose(key)
    world.store.folder = tmp_path / "elsewhere-objects"
    rejected(world, "changed", f"dt={NIGHT}", "--repin", services=world.machine("elsewhere"))


def test_a_pinned_version_that_is_gone_is_told_and_repin_takes_what_is_there(world):
    """A deleted version rejects the night and never falls back to the newest; only --repin takes what lies there now."""
    first = world.night()
    world.store.lose(world.uri(NIGHT))
    world.land(NIGHT, partition(NIGHT, rows=50))
    for key in world.store.keys("runs/"):
        world.store.lose(key)
    world.store.folder = world.folder / "elsewhere-objects"
    rejected(world, "snapshot_gone", f"dt={NIGHT}", "--repin", services=world.machine("elsewhere"))
    again = world.night(services=world.machine("elsewhere"), repin=True)
    assert again.snapshot.digest != first.snapshot.digest
    assert again.snapshot.difference.corrected == (f"rows/dt={NIGHT}/part.parquet",)


def test_a_pinned_version_that_was_landed_again_is_found_by_repin(world):
    """When the same bytes lie there again under a new version, --repin reads them: same digest, same model, on any machine."""
    first = world.night()
    world.store.lose(world.uri(NIGHT))
    world.land(NIGHT)
    for key in world.store.keys("runs/"):
        world.store.lose(key)
    request = NightRequest(pipeline="small", cutoff=NIGHT, repin=True)
    night = begin(request, world.pipeline())
    for step in STEPS[:-3]:
        world.store.folder = world.folder / f"objects-of-{step}"
        night = world.step(step, night, services=world.machine(f"machine-of-{step}"))
    assert identity(night)[:3] == identity(first)[:3]


def test_a_manifest_that_was_edited_is_not_trusted(world):
    """A snapshot whose content is not that of its digest is not read, whoever changed it."""
    night = world.night()
    key = f"snapshots/small/{night.snapshot.digest}.json"
    world.store.rot(key, world.store.get(key).replace(b'"size": ', b'"size": 1', 1))
    before = world.state()
    with pytest.raises(ArtifactTampered, match=f"snapshot manifest {key}"):
        world.night()
    assert world.state() == before


def test_a_corrected_partition_counts_once_and_is_named(reigning):
    """A partition that was landed anew belongs to the next night's snapshot once, and the difference names it."""
    reigning.land(NIGHT, partition(NIGHT, rows=60))
    reigning.land(NEXT)
    night = reigning.night(NEXT)
    assert night.snapshot.difference.corrected == (f"rows/dt={NIGHT}/part.parquet",)
    assert night.snapshot.rows == 7 * ROWS + 60
    assert night.validate_.checked == 2


def test_an_older_night_never_displaces_a_newer_one(world):
    """A backfill of an older cutoff may pass its gates; the champion that knows more stays."""
    world.land(NEXT)
    world.night(NEXT)
    night = world.night(NIGHT)
    assert night.outcome != "promoted"
    assert [e.champion.cutoff for e in world.entries] == [NEXT]


def test_an_old_promoted_night_run_again_keeps_its_version_and_demotes_nobody(reigning):
    """Clearing last week's night and running it again makes no version and no entry, and its record still says promoted."""
    reigning.land(NEXT)
    reigning.night(NEXT)
    before = reigning.state()
    again = reigning.night(NIGHT)
    assert reigning.state() == before
    assert (again.promote.entry, again.outcome) == (1, "promoted")
    assert "entry 2 has come since" in again.promote.detail


def test_of_many_promoters_at_once_one_wins(world):
    """Twelve passed runs of different recipes promote together: one entry, the others are superseded, the alias follows."""
    recipes = [world.pipeline(training__seed=seed) for seed in range(12)]
    ready = [world.until("promote", pipeline=recipe) for recipe in recipes]
    assert all(night.gate.verdict.outcome is Outcome.PASS for night in ready)
    done, gate = [], threading.Barrier(12)

    def promote(night, recipe):
        gate.wait()
        done.append(world.step("promote", night, pipeline=recipe))

    threads = [threading.Thread(target=promote, args=pair) for pair in zip(ready, recipes, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (entry,) = world.entries
    assert sorted(night.outcome for night in done) == ["promoted"] + ["refused"] * 11
    assert all("superseded" in night.promote.detail for night in done if night.outcome == "refused")
    assert world.champion == entry.champion.version


def test_one_night_run_twice_at_once_makes_one_version(world):
    """Two runs of the same night, step by step side by side, end with one version, one run and one entry."""
    here, there = world.services, world.machine("elsewhere")
    a, b = world.until("train"), world.until("train", services=there)
    for step in ("train", "evaluate", "register", "gate", "approve", "promote"):
        a = world.step(step, a, here)
        b = world.step(step, b, there)
    assert a.outcome == b.outcome == "promoted"
    assert len(world.registry.versions("small")) == len(world.entries) == len(world.registry.runs) == 1


def test_a_dry_run_changes_nothing(reigning):
    """A dry run comes to a verdict, and leaves ledger, registry, evidence, pins and records as they were."""
    reigning.land(NEXT)
    before = reigning.state()
    night = reigning.night(NEXT, dry_run=True)
    assert night.gate.verdict.outcome is Outcome.PASS
    assert night.promote.promoted is False
    assert reigning.state() == before
    assert reigning.night(NEXT).outcome == "promoted"
    assert reigning.champion == 2


def test_a_dry_run_and_the_night_judge_the_same(world):
    """What a dry run says is what the night then does: same run key, model and verdict."""
    dry = world.night(dry_run=True)
    assert identity(dry) == identity(world.night())


EVIDENCE = (
    {"kind": "bound", "metric": "auc", "at_least": 0.6, "min_rows": 50},
    {"kind": "evidence", "loss": "log_loss", "min_days": 5},
)


def test_evidence_grows_by_a_day_a_night_and_counts_none_twice(reigning):
    """Under an evidence gate each night adds the newest day, champion against a challenger that was there before it."""
    reigning.gated(*EVIDENCE)
    days = []
    for i in range(1, 5):
        cutoff = NIGHT + timedelta(days=i)
        reigning.land(cutoff)
        night = reigning.night(cutoff)
        assert night.outcome == "undecided"
        assert reigning.night(cutoff).gate == night.gate
        days.append(night.evaluate.case.trial.evidence["log_loss"])
    assert [len(found) for found in days] == [0, 1, 2, 3]
    assert [e.day for e in days[-1]] == [str(NIGHT + timedelta(days=i)) for i in (2, 3, 4)]
    assert [e.challenger for e in days[-1]] == [2, 3, 4]
    assert {e.champion for e in days[-1]} == {1}
    assert days[-1][:2] == days[-2]
    assert "after 3 days" in night.reasons[0]
    assert (reigning.champion, len(reigning.entries)) == (1, 1)


def test_evidence_judges_what_was_scored_before_the_labels_were_known(reigning):
    """The evidence is the difference of the losses that both versions were recorded with on the day."""
    reigning.gated(*EVIDENCE)
    for i in (1, 2):
        reigning.land(NIGHT + timedelta(days=i))
        night = reigning.night(NIGHT + timedelta(days=i))
    (found,) = night.evaluate.case.trial.evidence["log_loss"]
    read = {
        v: DayScore.model_validate_json(reigning.store.get(f"evidence/small/dt={found.day}/version={v}.json")).losses[
            "log_loss"
        ]
        for v in (1, 2)
    }
    assert found.difference == read[1] - read[2]


@pytest.mark.parametrize("wrong", [2, 99])
def test_an_alias_moved_by_hand_is_set_right(reigning, wrong):
    """The ledger says who serves: the next night moves the alias back, also when its challenger is refused."""
    reigning.registry.set_alias("small", "champion", wrong)
    reigning.land(NEXT)
    assert reigning.night(NEXT, pipeline=reigning.pipeline(**WEAK)).outcome == "refused"
    assert reigning.champion == 1


def test_a_tampered_champion_holds_the_promotion(reigning):
    """A champion whose bytes are not those of the ledger is not loaded: UNDECIDED with both digests, and nobody is promoted."""
    reigning.registry.tamper(reigning.entries[0].champion.mlflow_run_id)
    reigning.land(NEXT)
    night = reigning.night(NEXT)
    assert night.outcome == "undecided"
    assert any("sha256" in reason and "not loaded" in reason for reason in night.reasons)
    assert night.score.versions[0].problem
    assert (reigning.champion, len(reigning.entries)) == (1, 1)


def test_a_champion_whose_artifact_is_gone_holds_the_promotion(reigning):
    """A champion that cannot be loaded cannot be beaten."""
    del reigning.registry.runs[reigning.entries[0].champion.mlflow_run_id]
    reigning.land(NEXT)
    night = reigning.night(NEXT)
    assert night.outcome == "undecided"
    assert any("does not exist" in reason for reason in night.reasons)
    assert (reigning.champion, len(reigning.entries)) == (1, 1)


def test_a_champion_that_cannot_score_today_s_columns_holds_the_promotion(reigning):
    """A column that the champion reads and the data has lost leaves the comparison open."""
    reigning.land(NEXT)
    for i in range(9):
        day = FIRST + timedelta(days=i)
        reigning.land(day, z=[f"text {n}" for n in range(ROWS)])
    night = reigning.night(NEXT)
    assert night.outcome == "undecided"
    assert any("feature z" in reason for reason in night.reasons)
    assert reigning.champion == 1


def test_a_bad_partition_is_quarantined_left_out_and_counted(world):
    """A day that breaks a critical expectation is left out of the model, noted with its reason, and the night goes on."""
    bad = NIGHT - timedelta(days=4)
    world.land(bad, x=np.full(ROWS, 99.0))
    night = world.night()
    assert night.outcome == "promoted"
    (found,) = night.validate_.quarantined
    assert (found.partition, found.rows) == (str(bad), ROWS)
    assert "expect_column_values_to_be_between(x)" in found.reasons[0]
    assert night.validate_.rows == 7 * ROWS
    assert night.train.rows == 3 * ROWS
    assert len(world.store.keys("quarantine/")) == 1


def test_a_quarantined_partition_stays_so_the_next_night(world):
    """A partition is validated once; what put it in quarantine is known the next night without asking again."""
    world.land(NIGHT - timedelta(days=1), x=np.full(ROWS, 99.0))
    world.night()
    world.land(NEXT)
    night = world.night(NEXT)
    assert (night.validate_.checked, len(night.validate_.quarantined)) == (1, 1)


def test_too_many_quarantined_partitions_reject_the_night(reigning):
    """When more than the allowed share breaks, the night is rejected with the share, the suite and the reasons."""
    for i in range(4):
        reigning.land(NEXT - timedelta(days=i), x=np.full(ROWS, 99.0))
    rejected(reigning, "quarantined", "4 of 8 partitions break suite small", "allows 30%", cutoff=NEXT)


def test_a_spec_may_reject_instead_of_quarantining(reigning):
    """With on_critical: reject one bad day ends the night."""
    reigning.land(NEXT, x=np.full(ROWS, 99.0))
    strict = reigning.pipeline(validation__on_critical="reject")
    rejected(reigning, "validation", "1 of 8 partitions", cutoff=NEXT, pipeline=strict)


def test_an_expectation_that_cannot_be_checked_rejects_the_night(reigning):
    """A check that could not be made has not passed: rejected as an error, told apart from a failed one."""
    reigning.suite = {"name": "small", "expectations": [{"type": "expect_the_impossible", "kwargs": {"column": "x"}}]}
    rejected(reigning, "error", "expect_the_impossible(x) could not be checked", "suites/small.json")


def test_a_check_that_met_no_value_has_not_passed(world):
    """A critical expectation over a column of nulls quarantines the partition, because it checked nothing."""
    world.land(NIGHT - timedelta(days=4), x=pa.nulls(ROWS, pa.float64()))
    night = world.night()
    assert [q.partition for q in night.validate_.quarantined] == [str(NIGHT - timedelta(days=4))]
    assert "met no value" in night.validate_.quarantined[0].reasons[0]


def test_a_single_class_is_rejected(tmp_path):
    """When every label is the same there is nothing to learn, and the night says so."""
    world = World(tmp_path).land_all(y=np.ones(ROWS, bool))
    rejected(world, "one_class", "120 rows")


def test_an_infinite_feature_is_rejected(world):
    """A feature that is infinite rejects the night, by name and count."""
    world.land(NIGHT - timedelta(days=6), z=np.full(ROWS, np.inf))
    rejected(world, "non_finite", "feature z is infinite in 40 rows")


SIDE = SPEC.replace("  unknown_at", "  tables: {side: {uri: s3://lake/side/, format: parquet}}\n  unknown_at")


def test_a_side_table_that_is_missing_rejects_the_night(tmp_path):
    """A side table without a partition in the window is told."""
    world = World(tmp_path, SIDE).land_all()
    rejected(world, "incomplete", "side table side has no object under s3://lake/side/", "land it")


@pytest.mark.parametrize(
    "key",
    [
        "s3://lake/rows/dt=2024-03-08/../../x.parquet",
        "s3://lake/rows/../dt=2024-03-08/x.parquet",
        "s3://lake/rows//dt=2024-03-08/x.parquet",
        "s3://lake/rows/dt=2024-03-08/./x.parquet",
        "s3://lake/rows/dt=2024-03-08/a\n.parquet",
        "s3://lake/rows/dt=2024-03-08/a\u202e.parquet",
        "s3://lake/rows/dt=2024-02-30/a.parquet",
    ],
)
def test_a_key_that_cannot_be_meant_is_rejected(world, key):
    """Keys that climb, hide what they are or name a day that does not exist reject the night."""
    world.store.put(key, partition(NIGHT))
    rejected(world, "bad_key", "rename or remove it")


@pytest.mark.parametrize(
    "name",
    [
        "_SUCCESS",
        ".part.parquet",
        "_temporary/0/part.parquet",
        ".hive-staging_1/part.parquet",
        "part.parquet.tmp",
        "notes.txt",
        "",
    ],
)
def test_what_writers_leave_beside_their_data_is_ignored(world, name):
    """Markers, temporary files and other formats are no data."""
    world.store.put(f"s3://lake/rows/dt={NIGHT}/{name}", b"not data")
    night = world.night()
    assert (night.outcome, night.snapshot.objects) == ("promoted", 8)


def test_days_outside_the_window_are_not_read(world):
    """Partitions before the window and after the cutoff are not part of the snapshot."""
    world.land(FIRST - timedelta(days=1))
    world.land(NEXT)
    world.store.put(f"s3://lake/rows/dt={NEXT}/late.parquet", b"broken, and not met")
    night = world.night()
    assert (night.snapshot.partitions, night.snapshot.objects) == (8, 8)


def test_a_store_that_ignores_conditions_is_refused_at_promotion(world):
    """Where two promoters could both win nobody is promoted, and the reason is told."""
    world.store.conditional = False
    with pytest.raises(ConditionalWritesIgnored, match="two promoters could both win"):
        world.night()
    assert world.store.keys("ledger/") == []
    assert world.champion is None
    assert nights(world.services, "small")[0].outcome == "failed"


def test_a_broken_ledger_stops_the_night(reigning):
    """No promotion is made on a ledger that does not verify, and nothing is changed."""
    key = "ledger/small/00000001.json"
    reigning.store.rot(key, reigning.store.get(key).replace(b'"actor": "tests"', b'"actor": "other"'))
    reigning.land(NEXT)
    before = reigning.state()
    with pytest.raises(LedgerBroken, match="does not match its hash"):
        reigning.night(NEXT)
    after = reigning.state()
    assert (after["ledger"], after["champion"], after["versions"]) == (
        before["ledger"],
        before["champion"],
        before["versions"],
    )


class Sabotaged(QuickTrainer):
    """A trainer whose registered artifacts fail the smoke test."""

    def smoke(self, *_):
        """Say that something is wrong."""
        return Tried(problem="3 of 120 predictions differ from those that were evaluated")


def test_an_artifact_that_predicts_otherwise_is_refused(world):
    """When the registered artifact does not reproduce the evaluated predictions the model is refused, whatever it scored."""
    night = world.night(services=world.machine("cache", Sabotaged()))
    assert night.outcome == "refused"
    assert "smoke test: 3 of 120 predictions differ from those that were evaluated" in night.reasons
    assert world.entries == ()


def test_an_approval_that_nobody_gave_is_a_no(world):
    """Where a person must approve, a night without one is refused and says so."""
    world.spec = SPEC + "approval: {when: [always]}\n"
    night = world.night()
    assert night.outcome == "refused"
    assert "nobody was asked" in night.reasons[0]
    assert world.entries == ()


def test_another_recipe_of_the_same_night_is_another_run(world):
    """Changing a parameter gives another run key over the same pins, and a version of its own."""
    one, other = world.night(), world.night(pipeline=world.pipeline(training__seed=5))
    assert one.snapshot.digest == other.snapshot.digest
    assert other.snapshot.reused
    assert one.run_key != other.run_key
    assert len(world.registry.versions("small")) == 2


def test_the_run_says_what_it_was_made_of(world):
    """The tracked run carries digests, parameters, metrics and the verdict, so that it explains itself."""
    night = world.night(reason="because")
    run = world.registry.runs[night.train.mlflow_run_id]
    assert run.tags["ratchet.snapshot"] == night.snapshot.digest
    assert run.tags["ratchet.verdict"] == "PASS"
    assert run.tags["mlflow.note.content"] == "because"
    assert {"holdout.auc", "train.rows"} <= run.metrics.keys()
    assert run.params["max_depth"] == "2"
    assert {"spec.json", "suite.json"} <= run.files.keys()
    assert run.status == "FINISHED"


def test_a_late_promotion_uses_no_day_that_a_later_night_has_looked_at(reigning):
    """A night that is run after later ones begins a reign whose evidence starts after all days that were scored by then."""
    later = NEXT + timedelta(days=2)
    for day in (NEXT, NEXT + timedelta(days=1), later):
        reigning.land(day)
    strict = [{"kind": "bound", "metric": "auc", "at_least": 0.999, "min_rows": 10**6}]
    assert reigning.night(later, pipeline=reigning.pipeline(gates=strict)).outcome == "undecided"
    assert reigning.night(NEXT).outcome == "promoted"
    assert reigning.entries[-1].judged_through == later
