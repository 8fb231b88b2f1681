"""The auditor's questions on small worlds: does it all still hold, and who served when?"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from small_world import NIGHT

from ratchet.domain.checks import Outcome
from ratchet.domain.ledger import GENESIS, champion_of
from ratchet.errors import LedgerBroken, ServiceError
from ratchet.steps import turns
from ratchet.steps.audit import audit, audit_export
from ratchet.steps.history import _learnt, nights, served

NEXT = NIGHT + timedelta(days=1)


@pytest.fixture(scope="session")
def _turned(_reigning, tmp_path_factory):
    world = _reigning.copy(tmp_path_factory.mktemp("turned"))
    world.land(NEXT)
    world.night(NEXT)
    entries = turns.read(world.services, "small")
    back = {"champion": entries[0].champion, "actor": "jane", "reason": "it annoys callers"}
    turns.append(world.services, "small", entries, "rollback", **back)
    return world


@pytest.fixture
def turned(_turned, tmp_path):
    """A world with a bootstrap, a promotion and a rollback."""
    return _turned.copy(tmp_path)


def wrong(found):
    """Return what does not hold, by name."""
    return {c.name: c.reason for c in found.findings if c.outcome not in {Outcome.PASS, Outcome.NOT_APPLICABLE}}


def test_a_ledger_that_nobody_has_been_at_holds(turned):
    """Every finding is told, also of what holds; nothing is written."""
    before = turned.state()
    found = audit(turned.services, "small", deep=True)
    assert wrong(found) == {}
    assert found.holds
    assert [c.name for c in found.findings] == [
        "store",
        "chain",
        "signatures",
        "anchors",
        "alias",
        "versions",
        "artifacts",
        "verdicts",
    ]
    assert (found.entries, found.head) == (3, turned.entries[-1].hash)
    assert turned.state() == before


def test_a_pipeline_without_entries_holds(world):
    """Nothing that could be broken is there; an alias without a ledger is."""
    assert wrong(audit(world.services, "small")) == {}
    world.registry.set_alias("small", "champion", 1)
    assert "the ledger has no entries" in wrong(audit(world.services, "small"))["alias"]


def test_a_broken_chain_is_told_and_nothing_else_is_believed(turned):
    """The finding says which entry and what to do."""
    key = "ledger/small/00000002.json"
    turned.store.put(key, turned.store.get(key).replace(b'"actor": "tests"', b'"actor": "other"'))
    found = wrong(audit(turned.services, "small"))
    assert list(found) == ["chain"]
    assert "entry 00000002: its content does not match its hash" in found["chain"]


def test_a_cut_ledger_and_lost_anchors_are_told(turned):
    """An entry that is gone, and anchors that are gone: only the newest entry may wait for its own."""
    one = turned.registry._anchors["small"].pop(3)
    assert wrong(audit(turned.services, "small")) == {}
    turned.registry._anchors["small"].pop(1)
    assert "remembers no hash of entry 1, 3" in wrong(audit(turned.services, "small"))["anchors"]
    turned.registry.anchor("small", 4, one)
    assert "entry 00000004: expected hash" in wrong(audit(turned.services, "small"))["anchors"]


def test_a_moved_alias_is_told(turned):
    """It names the version, the one that should be there, and the command that mends it."""
    turned.registry.set_alias("small", "champion", 2)
    assert wrong(audit(turned.services, "small"))["alias"] == (
        "it names version 2, the newest entry says version 1; `ratchet reconcile small` sets it right"
    )


def test_a_version_that_is_gone_or_another_is_told(turned):
    """Expected and found, field by field."""
    versions = turned.registry._versions["small"]
    versions[2] = versions[2].model_copy(update={"artifact_digest": "another"})
    del versions[1]
    found = wrong(audit(turned.services, "small"))
    assert "not in the registry any more" in found["version 1"]
    assert found["version 2"].startswith("artifact_digest: expected ")
    assert found["version 2"].endswith("found another")


def test_a_tampered_artifact_is_told(turned):
    """Of who serves always; of every champion that was where that is asked for."""
    turned.registry.tamper(turned.entries[1].champion.mlflow_run_id)
    assert wrong(audit(turned.services, "small")) == {}
    assert "its sha256 is" in wrong(audit(turned.services, "small", deep=True))["artifact of version 2"]
    turned.registry.tamper(turned.entries[0].champion.mlflow_run_id)
    assert list(wrong(audit(turned.services, "small"))) == ["artifact of version 1"]


def test_an_edited_verdict_is_told(turned):
    """The record of the night must give the digest that the entry names; the night's own record will do; none will not."""
    run = turned.entries[1].night
    key = f"runs/small/{run}/gate.json"
    gate = json.loads(turned.store.get(key))
    gate["verdict"]["checks"][0]["value"] = 0.99
    turned.store.put(key, json.dumps(gate).encode())
    assert "was edited" in wrong(audit(turned.services, "small"))["verdict of entry 2"]
    turned.store.put(key, b"{")
    assert "cannot be read" in wrong(audit(turned.services, "small"))["verdict of entry 2"]
    turned.store.delete(key)
    assert wrong(audit(turned.services, "small")) == {}
    turned.store.delete(f"nights/small/{NEXT}/{run[:16]}.json")
    assert "no record of run" in wrong(audit(turned.services, "small"))["verdict of entry 2"]


def test_what_could_not_be_checked_does_not_hold(turned, monkeypatch):
    """A registry or a store that fails leaves its findings undecided, and the others stand."""

    def fails(*_, **__):
        raise ServiceError("MLflow", "reading")

    for name in ("alias", "versions", "anchors", "download"):
        monkeypatch.setattr(turned.registry, name, fails)
    turned.store.conditional = False
    found = audit(turned.services, "small")
    assert {
        c.outcome for c in found.findings if c.name in {"anchors", "alias", "versions", "artifact of version 1"}
    } == {Outcome.UNDECIDED}
    assert "ignores conditional writes" in wrong(found)["store"]
    assert not found.holds


def test_an_earlier_export_is_how_the_ledger_begins(turned):
    """What was exported before must still be there, entry for entry: nothing else shows a ledger that was rolled back whole."""
    entries = turned.entries
    assert wrong(audit(turned.services, "small", earlier=entries[:2])) == {}
    other = entries[1].model_copy(update={"actor": "other"}).sealed()
    assert (
        "entry 2 was exported with hash"
        in wrong(audit(turned.services, "small", earlier=(entries[0], other)))["earlier export"]
    )
    more = entries[2].model_copy(update={"seq": 4})
    assert "now it is gone" in wrong(audit(turned.services, "small", earlier=(*entries, more)))["earlier export"]


def test_an_export_is_verified_without_any_service(turned):
    """Line by line; a missing, edited or alien line, or none at all, does not hold."""
    lines = [entry.as_json() for entry in turned.entries]
    found, entries = audit_export([*lines, ""], {})
    assert (found.holds, entries) == (True, turned.entries)
    for given, words in (
        ([], "holds no entry"),
        (lines[1:], "entry 2 stands in its place"),
        ([lines[0], "{}"], "line 2 is not a ledger entry"),
        ([lines[0], lines[1].replace('"tests"', '"other"')], "does not match its hash"),
    ):
        found, entries = audit_export(given, {})
        assert (found.holds, entries) == (False, ())
        assert words in found.findings[0].reason


def at(entry, seconds=0):
    """Return the moment of an entry."""
    return datetime.fromisoformat(entry.at) + timedelta(seconds=seconds)


@pytest.fixture
def spread(turned):
    """The same world, with a day between its entries."""
    made = []
    for number, entry in enumerate(turned.entries):
        moment = datetime(2024, 4, 1 + number, 2, tzinfo=UTC).isoformat()
        previous = made[-1].hash if made else GENESIS
        made.append(entry.model_copy(update={"at": moment, "previous": previous}).sealed())
        turned.store.put(f"ledger/small/{entry.seq:08d}.json", made[-1].as_json(indent=1).encode())
        turned.registry.anchor("small", entry.seq, made[-1].hash)
    return turned


def test_who_served_is_told_with_all_that_is_known(spread):
    """Version, since, until, data, verdict, approval, and that it verifies."""
    first, second, _ = spread.entries
    then = served(spread.services, "small", at(first, 3600))
    assert (then.entry, then.until, then.judged) == (first, second, first)
    night = next(n for n in nights(spread.services, "small") if n.request.cutoff == NIGHT)
    assert then.learnt.snapshot == night.snapshot.digest
    assert (then.learnt.rows, then.learnt.cutoff) == (night.snapshot.rows, str(NIGHT))
    assert (then.learnt.window.first, then.learnt.window.last) == (NIGHT - timedelta(days=7), NIGHT)
    assert then.verdict == night.gate.verdict
    assert "nobody was asked" in then.approval
    assert then.verifies
    assert {c.name for c in then.findings} >= {"chain", "versions", "artifacts", "verdicts", "snapshot"}


def test_after_a_rollback_the_verdict_is_that_of_the_first_time(spread):
    """Nobody judged anew: the entry says who acted, and the version was let through by the bootstrap."""
    first, _, third = spread.entries
    then = served(spread.services, "small", at(third, 5))
    assert (then.entry, then.until, then.judged) == (third, None, first)
    assert then.entry.champion == champion_of([first])
    assert then.verdict.bootstrap


def test_before_the_first_champion_nobody_served(spread):
    """The answer names the first that came."""
    then = served(spread.services, "small", at(spread.entries[0], -1))
    assert (then.entry, then.until) == (None, spread.entries[0])
    assert then.verifies


def test_a_moment_is_exact_to_the_second(spread):
    """At the second of an entry its champion serves; a second before it does not."""
    second = spread.entries[1]
    assert served(spread.services, "small", at(second)).entry == second
    assert served(spread.services, "small", at(second, -1)).entry == spread.entries[0]


def test_what_is_gone_or_edited_is_told_with_the_answer(spread):
    """The answer stands on the ledger; what else was lost is said."""
    entry = spread.entries[0]
    snapshot = served(spread.services, "small", at(entry)).learnt.snapshot
    spread.store.delete(f"snapshots/small/{snapshot}.json")
    spread.registry.tamper(entry.champion.mlflow_run_id)
    then = served(spread.services, "small", at(entry))
    assert not then.verifies
    assert {c.name for c in then.findings if c.outcome == "FAIL"} == {"snapshot", "artifact of version 1"}
    spread.store.delete(f"nights/small/{NIGHT}/{entry.night[:16]}.json")
    assert served(spread.services, "small", at(entry)).learnt.snapshot == ""


def test_a_ledger_that_does_not_hold_gives_no_answer(spread):
    """Whoever served cannot be proved."""
    spread.store.delete("ledger/small/00000003.json")
    with pytest.raises(LedgerBroken, match="it is gone"):
        served(spread.services, "small", datetime.now(UTC))


def test_dry_runs_come_after_the_nights(reigning):
    """A dry run of a far day does not stand first, nor in the way of nights where few are asked for."""
    far = NIGHT + timedelta(days=1)
    reigning.land(far)
    reigning.night(far, dry_run=True)
    assert [n.request.dry_run for n in nights(reigning.services, "small")] == [False, True]
    assert [n.request.cutoff for n in nights(reigning.services, "small", 1)] == [NIGHT]


def forged(world, **facts):
    """Write the entry that follows, as somebody does who may write to the bucket and knows how entries are hashed."""
    last = world.entries[-1]
    made = last.model_copy(update={"seq": last.seq + 1, "previous": last.hash, "actor": "mallory", **facts}).sealed()
    world.store.put(f"ledger/small/{made.seq:08d}.json", made.as_json().encode())


def test_a_promotion_that_no_verdict_let_through_is_told(turned):
    """Such an entry fits the chain, and nobody remembers its hash yet; but nights name the verdict."""
    forged(turned, action="override", verdict="", night="")
    assert (
        "no night of Ratchet's has written this entry" in wrong(audit(turned.services, "small"))["verdict of entry 4"]
    )


@pytest.mark.parametrize("at", ["yesterday", "2026-11-21T14:20:00"])
def test_an_entry_without_a_moment_is_refused(turned, at):
    """Who served when could not be told."""
    forged(turned, at=at)
    with pytest.raises(LedgerBroken, match=r"entry 00000004: .* is not a ledger entry: at: "):
        turns.look(turned.services, "small")


def test_another_nights_data_does_not_pass_for_what_a_champion_learnt_from(turned):
    """The run key is made of the snapshot's digest, so a night's record that names another snapshot is found out."""
    ours, other = (n.snapshot.digest for n in nights(turned.services, "small"))
    key = next(k for k in turned.store.keys("nights/small/") if f"/{NEXT}/" in k)
    turned.store.put(key, turned.store.get(key).replace(ours.encode(), other.encode()))
    promoted = turned.entries[1]
    night = next(n for n in nights(turned.services, "small") if n.run_key == promoted.champion.run_key)
    _, check = _learnt(turned.services, "small", promoted, night)
    assert (check.outcome, "the record was edited" in check.reason) == (Outcome.FAIL, True)
