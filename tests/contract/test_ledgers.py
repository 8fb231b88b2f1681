"""One suite for ``ports.Ledger`` on each store that may hold it."""

from __future__ import annotations

import threading
from datetime import date

import pytest

from fakes import MemoryStore
from ratchet.adapters.ledger import ObjectLedger
from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.errors import AlreadyExists, LedgerBroken

DAY = date(2024, 1, 10)


@pytest.fixture(params=("memory", "s3"))
def store(request, tmp_path):
    """The store under the ledger."""
    return MemoryStore(tmp_path / "objects") if request.param == "memory" else request.getfixturevalue("s3")


@pytest.fixture
def ledger(store):
    """A ledger without entries."""
    return ObjectLedger(store)


def entry(after: LedgerEntry | None = None, actor: str = "me", pipeline: str = "p") -> LedgerEntry:
    """Return the entry that follows another."""
    champion = Champion(version=1, run_key=actor, artifact_digest="d", cutoff=DAY, seen_through=DAY, mlflow_run_id="r")
    made = LedgerEntry(
        seq=after.seq + 1 if after else 1,
        previous=after.hash if after else GENESIS,
        pipeline=pipeline,
        action="promote" if after else "bootstrap",
        champion=champion,
        judged_through=DAY,
        verdict="v",
        reasons=("ü: good",),
        actor=actor,
        reason="",
        at="2024-01-10T00:00:00+00:00",
    )
    return made.sealed()


def test_a_ledger_begins_empty(ledger):
    """A pipeline that was never promoted has no entries."""
    assert ledger.entries("p") == ()


def test_entries_come_back_in_order(ledger):
    """Twelve turns come back whole, in order and verified; another pipeline's are not among them."""
    made = [entry()]
    for _ in range(11):
        made.append(entry(made[-1]))
    for one in made:
        ledger.append(one)
    ledger.append(entry(pipeline="p2"))
    assert ledger.entries("p") == tuple(made)
    assert len(ledger.entries("p2")) == 1


def test_a_number_is_taken_once(ledger):
    """Who comes second to an entry is told, and the first entry stays."""
    ledger.append(entry(actor="first"))
    with pytest.raises(AlreadyExists):
        ledger.append(entry(actor="second"))
    assert [e.actor for e in ledger.entries("p")] == ["first"]


def test_appending_the_same_entry_again_is_no_conflict(ledger):
    """The entry whose reply was lost is found to be there."""
    ledger.append(entry())
    ledger.append(entry())
    assert len(ledger.entries("p")) == 1


def test_of_twelve_promoters_one_wins_every_round(ledger):
    """Twelve at once, five rounds: one winner each, and a chain that holds."""
    for number in range(1, 6):
        head, won, start = (ledger.entries("p") or (None,))[-1], [], threading.Barrier(12)

        def promote(who, head=head, won=won, start=start):
            start.wait()
            try:
                ledger.append(entry(head, actor=f"promoter {who}"))
                won.append(who)
            except AlreadyExists:
                pass

        threads = [threading.Thread(target=promote, args=(who,)) for who in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(won) == 1
        assert len(ledger.entries("p")) == number


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text.replace(b'"actor": "me"', b'"actor": "you"'), "does not match its hash"),
        (lambda text: text[:-30], "is not a ledger entry"),
        (lambda text: text.replace(b'"actor"', b'"actress"'), "is not a ledger entry"),
        (lambda _: b"", "is not a ledger entry"),
    ],
)
def test_a_changed_entry_is_found(ledger, store, change, words):
    """An entry that was edited, cut or emptied breaks the ledger, and says where and what to do."""
    ledger.append(entry())
    key = "ledger/p/00000001.json"
    store.put(key, change(store.get(key)))
    with pytest.raises(LedgerBroken, match=f"ledger of p, entry 00000001: .*{words}.*restore"):
        ledger.entries("p")


def test_a_removed_entry_is_found(ledger, store):
    """A hole in the chain breaks the ledger."""
    first = entry()
    second = entry(first)
    ledger.append(first)
    ledger.append(second)
    key = "ledger/p/00000001.json"
    store.delete(key) if isinstance(store, MemoryStore) else store.client.delete_object(Bucket=store.bucket, Key=key)
    with pytest.raises(LedgerBroken, match="entry 2 stands in its place"):
        ledger.entries("p")
