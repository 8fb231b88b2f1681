"""The ledger's rules: whatever is done to the chain is found, and nothing but a newer, judged run may be appended."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry, promotion_plan, verified
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


def head(run: str = "old", seq: int = 2, cutoff: date = DAY) -> LedgerEntry:
    """Return a newest entry."""
    return chain(1)[0].model_copy(
        update={"seq": seq, "champion": champion(5, cutoff).model_copy(update={"run_key": run})}
    )


@pytest.mark.parametrize(
    ("newest", "judged_against", "plan", "words"),
    [
        (None, 0, "append", "first champion"),
        (None, 3, "superseded", "entry 3, which is gone"),
        (head(), 2, "append", "follows entry 2"),
        (head(cutoff=date(2024, 1, 9)), 2, "append", "follows entry 2"),
        (head(cutoff=date(2024, 1, 11)), 2, "superseded", "only up to 2024-01-10"),
        (head(), 1, "superseded", "entry 2 has come since"),
        (head(), 0, "superseded", "against entry none"),
        (head(seq=2), 3, "superseded", "entry 2 has come since"),
        (head("mine"), 1, "done", "version 5 of this run is the champion already"),
        (head("mine", cutoff=date(2024, 1, 11)), 9, "done", "entry 2"),
    ],
)
def test_what_a_passed_verdict_may_do(newest, judged_against, plan, words):
    """Only a run that was judged against the newest entry, and knows no older data, is appended; a run that is champion is done."""
    found, why = promotion_plan(newest, run_key="mine", cutoff=DAY, judged_against=judged_against)
    assert found == plan
    assert words in why
