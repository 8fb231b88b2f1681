"""The ledger's rules: whatever is done to the chain is found, and nothing but a newer, judged run may be appended."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ratchet.domain.ledger import (
    GENESIS,
    Champion,
    LedgerEntry,
    anchored,
    followed_by,
    promotion_plan,
    serving_at,
    verified,
)
from ratchet.errors import LedgerBroken

DAY = date(2024, 1, 10)


def champion(n: int = 1, cutoff: date = DAY) -> Champion:
    """Return what serves after ``n`` turns."""
    return Champion(
        version=n,
        run_key=f"run{n}",
        artifact_digest=f"digest{n}",
        cutoff=cutoff,
        seen_through=cutoff,
        mlflow_run_id=f"id{n}",
    )


def chain(length: int) -> list[LedgerEntry]:
    """Return a ledger that holds."""
    made: list[LedgerEntry] = []
    for seq in range(1, length + 1):
        entry = LedgerEntry(
            seq=seq,
            previous=made[-1].hash if made else GENESIS,
            pipeline="p",
            action="promote" if made else "bootstrap",
            champion=champion(seq),
            judged_through=DAY,
            verdict="v",
            reasons=("auc: good",),
            actor="a",
            reason="",
            at="2024-01-10T03:00:00+00:00",
        )
        made.append(entry.sealed())
    return made


edits = st.sampled_from(
    [
        {"actor": "somebody else"},
        {"reasons": ()},
        {"verdict": "w"},
        {"reason": "because"},
        {"at": "2025-01-01T00:00:00+00:00"},
        {"champion": champion(9)},
        {"seq": 7},
        {"previous": "f" * 64},
        {"hash": "f" * 64},
        {"hash": ""},
        {"pipeline": "q"},
    ]
)


@given(length=st.integers(0, 6))
def test_a_whole_chain_holds(length):
    """What was written by the rules verifies, and survives being stored."""
    entries = chain(length)
    assert verified("p", [LedgerEntry.model_validate_json(e.model_dump_json()) for e in entries]) == tuple(entries)


@given(length=st.integers(1, 6), where=st.integers(0, 5), edit=edits)
def test_any_edit_is_found(length, where, edit):
    """One changed field of one entry breaks the chain, and the error names the pipeline."""
    entries = chain(length)
    where %= length
    entries[where] = entries[where].model_copy(update=edit)
    with pytest.raises(LedgerBroken, match="ledger of p, entry"):
        verified("p", entries)


@given(length=st.integers(2, 6), where=st.integers(0, 5), edit=edits)
def test_an_edit_with_a_new_hash_is_found_by_the_next_entry(length, where, edit):
    """Sealing an edited entry again does not help, because the entry after it carries the old hash."""
    entries = chain(length)
    where %= length - 1
    entries[where] = entries[where].model_copy(update=edit).sealed()
    assume(entries[where] != chain(length)[where])
    with pytest.raises(LedgerBroken):
        verified("p", entries)


@given(length=st.integers(2, 6), where=st.integers(0, 5))
def test_a_missing_entry_is_found(length, where):
    """Taking out any entry but the last breaks the chain."""
    entries = chain(length)
    del entries[where % (length - 1)]
    with pytest.raises(LedgerBroken):
        verified("p", entries)


@given(length=st.integers(2, 6), order=st.randoms(use_true_random=False))
def test_another_order_is_found(length, order):
    """Entries in any order but their own break the chain."""
    entries = chain(length)
    order.shuffle(entries)
    assume(entries != chain(length))
    with pytest.raises(LedgerBroken):
        verified("p", entries)


def test_another_pipelines_entry_is_found():
    """A chain that is copied to another pipeline's place does not hold there."""
    with pytest.raises(LedgerBroken, match="belongs to pipeline 'p'"):
        verified("q", chain(2))


def signed(length: int, first: int, key: str = "ours") -> list[LedgerEntry]:
    """Return a ledger of which the entries from a number on are signed."""
    made: list[LedgerEntry] = []
    for entry in chain(length):
        named = {"key": key} if entry.seq >= first else {}
        sealed = entry.model_copy(update={"previous": made[-1].hash if made else GENESIS, **named}).sealed()
        made.append(sealed.model_copy(update={"signature": f"{key} {sealed.hash}"} if named else {}))
    return made


OURS = {"ours": lambda entry_hash, signature: signature == f"ours {entry_hash}"}


@given(length=st.integers(1, 6), first=st.integers(1, 8))
def test_with_trusted_keys_a_ledger_must_be_signed_from_some_entry_on(length, first):
    """Signed to the end it holds; without any signature it does not, because that is what a forger can make."""
    entries = signed(length, first)
    if first <= length:
        assert verified("p", entries, OURS) == tuple(entries)
    else:
        with pytest.raises(LedgerBroken, match="ratchet ledger sign p"):
            verified("p", entries, OURS)
    assert verified("p", entries) == tuple(entries)


@given(length=st.integers(2, 6), start=st.integers(1, 6), key=st.sampled_from(["", "theirs"]))
def test_no_tail_of_a_signed_ledger_can_be_made_anew(length, start, key):
    """From whichever entry on a forger begins, with whatever key, and whatever fresh hashes."""
    entries = signed(length, 1)
    start = min(start, length)
    forged = entries[: start - 1]
    for entry in entries[start - 1 :]:
        named = {"key": key, "actor": "forger", "signature": ""}
        sealed = entry.model_copy(update={"previous": forged[-1].hash if forged else GENESIS, **named}).sealed()
        forged.append(sealed.model_copy(update={"signature": f"{key} {sealed.hash}" if key else ""}))
    with pytest.raises(LedgerBroken):
        verified("p", forged, OURS)


def test_anchors_say_what_is_expected_and_found():
    """An entry that is gone, one that is another, and a number that never was."""
    entries = chain(3)
    kept = {entry.seq: entry.hash for entry in entries}
    assert anchored("p", entries, kept) == ()
    assert anchored("p", entries, {2: kept[2]}) == (entries[0], entries[2])
    for anchors, words in (
        ({4: "f" * 64}, "entry 00000004: expected hash ffffffffffffffff.*it is gone"),
        ({2: "f" * 64}, f"entry 00000002: expected hash ffffffffffffffff.*found {kept[2][:16]}: it was written anew"),
        ({0: "f" * 64}, "entry 00000000: .*found none"),
    ):
        with pytest.raises(LedgerBroken, match=words):
            anchored("p", entries, anchors)


def test_who_served_and_until_when():
    """A freeze ends nobody's reign; the next turn does."""
    made: list[LedgerEntry] = []
    for day, (entry, action) in enumerate(zip(chain(3), ("bootstrap", "freeze", "promote"), strict=True), start=1):
        made.append(entry.model_copy(update={"action": action, "at": f"2024-01-{day:02d}T00:00:00+00:00"}))
    assert serving_at(made, datetime(2023, 12, 31, tzinfo=UTC)) is None
    assert serving_at(made, datetime(2024, 1, 2, 12, tzinfo=UTC)) == made[0]
    assert serving_at(made, datetime(2024, 1, 3, tzinfo=UTC)) == made[2]
    assert followed_by(made, made[0]) == made[2]
    assert followed_by(made, made[2]) is None


def ledger(*runs: str, cutoff: date = DAY) -> list[LedgerEntry]:
    """Return a ledger whose entries were made by these runs."""
    return [
        entry.model_copy(update={"champion": champion(entry.seq), "night": run, "judged_through": cutoff})
        for entry, run in zip(chain(len(runs)), runs, strict=True)
    ]


@pytest.mark.parametrize(
    ("entries", "judged_against", "plan", "words"),
    [
        ([], 0, "append", "first champion"),
        ([], 3, "superseded", "entry 3, which is gone"),
        (ledger("a", "b"), 2, "append", "follows entry 2"),
        (ledger("a", "b", cutoff=date(2024, 1, 9)), 2, "append", "follows entry 2"),
        (ledger("a", "b", cutoff=date(2024, 1, 11)), 2, "superseded", "only up to 2024-01-10"),
        (ledger("a", "b"), 1, "superseded", "entry 2 has come since"),
        (ledger("a", "b"), 0, "superseded", "against entry none"),
        (ledger("a", "b"), 3, "superseded", "entry 2 has come since"),
        (ledger("a", "mine"), 1, "done", "version 2 became champion by this run with entry 2"),
        (ledger("a", "mine", cutoff=date(2024, 1, 11)), 9, "done", "entry 2"),
        (ledger("mine", "b", "c"), 0, "done", "with entry 1; entry 3 has come since"),
        (ledger("mine", "b", "mine"), 0, "done", "with entry 3"),
    ],
)
def test_what_a_passed_verdict_may_do(entries, judged_against, plan, words):
    """Only a run that was judged against the newest entry, and knows no older data, is appended; one that was champion is done."""
    found, why = promotion_plan(entries, night="mine", cutoff=DAY, judged_against=judged_against, today=DAY)
    assert found == plan
    assert words in why
