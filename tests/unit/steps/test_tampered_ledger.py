"""Whole nights on a ledger that somebody has been at: they stop, move nothing, and leave their report."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_world import NIGHT
from typer.testing import CliRunner

from ratchet.adapters.ledger import ObjectLedger
from ratchet.adapters.signing import Signer
from ratchet.cli import app
from ratchet.domain.night import NightRequest
from ratchet.errors import ConditionalWritesIgnored, LedgerBroken
from ratchet.steps import turns
from ratchet.steps.night import run_night

NEXT = NIGHT + timedelta(days=1)
SECOND = "ledger/small/00000002.json"


@pytest.fixture
def twice(reigning):
    """A world in which two nights have made champions, and a third has data."""
    reigning.land(NEXT)
    assert reigning.night(NEXT).outcome == "promoted"
    reigning.land(NEXT + timedelta(days=1))
    return reigning


def test_a_deleted_newest_entry_stops_the_night(twice):
    """The night ends failed with the reason, the alias stays where it is, nothing is appended, and the report is written."""
    twice.store.delete(SECOND)
    before = twice.state()
    request = NightRequest(pipeline="small", cutoff=NEXT + timedelta(days=1), actor="tests")
    night, error = run_night(request, twice.pipeline(), twice.machine("another"))
    assert isinstance(error, LedgerBroken)
    assert (night.outcome, night.ended.step, night.ended.reason) == ("failed", "score", "LedgerBroken")
    assert "entry 00000002: expected hash" in night.reasons[0]
    assert "restore the entry from the object store's versions" in night.reasons[0]
    after = twice.state()
    assert (after["ledger"], after["champion"]) == (before["ledger"], before["champion"])
    assert b"it is gone" in twice.store.get(night.report.page)


def test_an_entry_that_is_deleted_before_the_promotion_is_not_taken_again(twice):
    """The promotion refuses although the verdict has passed; a repaired ledger lets the same night through."""
    cutoff = NEXT + timedelta(days=1)
    night = twice.until("promote", cutoff)
    assert night.gate.verdict.outcome == "PASS"
    kept = twice.store.get(SECOND)
    twice.store.delete(SECOND)
    alias = twice.champion
    with pytest.raises(LedgerBroken, match="it is gone"):
        twice.step("promote", night)
    assert (twice.champion, twice.store.keys("ledger/")) == (alias, ["ledger/small/00000001.json"])
    twice.store.put(SECOND, kept)
    assert twice.step("promote", night).promote.entry == 3


def test_a_night_signs_and_refuses_what_is_not_signed(reigning):
    """Keys given to a world that began without are refused until its ledger is signed; then its nights sign."""
    signed = dataclasses.replace(
        reigning.services, ledger=ObjectLedger(reigning.store, Signer(Ed25519PrivateKey.generate()))
    )
    reigning.land(NEXT)
    with pytest.raises(LedgerBroken, match="ratchet ledger sign small"):
        reigning.night(NEXT, services=signed)
    entries = turns.read(reigning.services, "small")
    turns.append(signed, "small", entries, "sign", actor="jane", reason="compared with the export of May")
    assert reigning.night(NEXT, services=signed).outcome == "promoted"
    found = turns.read(signed, "small")
    assert [entry.action for entry in found] == ["bootstrap", "sign", "promote"]
    assert [bool(entry.signature) for entry in found] == [False, True, True]
    assert found[1].champion == found[0].champion


def test_the_command_signs_a_ledger_that_began_unsigned(reigning, monkeypatch):
    """It appends one signed entry with its reason, which changes nothing; asked again it does nothing."""
    key = Signer(Ed25519PrivateKey.generate())
    signs = dataclasses.replace(reigning.services, ledger=ObjectLedger(reigning.store, key))
    monkeypatch.setattr("ratchet.cli.ledger.connect", lambda: signs)
    monkeypatch.setenv("RATCHET_SIGNING_KEY", "as the services have it")
    for said in ("entry 2 of small is signed by key", "small is signed already"):
        ended = CliRunner().invoke(app, ["ledger", "sign", "small", "--reason", "compared"])
        assert (ended.exit_code, said in ended.output) == (0, True), ended.output
    first, second = turns.read(signs, "small")
    assert (second.action, second.reason, second.champion) == ("sign", "compared", first.champion)
    assert reigning.champion == first.champion.version


def test_a_store_that_ignores_conditions_is_named_before_anything_is_read(world):
    """It is the first thing that a night tries."""
    world.store.conditional = False
    request = NightRequest(pipeline="small", cutoff=NIGHT, actor="tests")
    night, error = run_night(request, world.pipeline(), world.services)
    assert isinstance(error, ConditionalWritesIgnored)
    assert night.ended.step == "snapshot"
    assert world.store.keys("snapshots/") == []
