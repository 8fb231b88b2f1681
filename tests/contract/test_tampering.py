"""Whatever is done to a ledger by hand is found: in memory, and on a real S3 server with a real MLflow server."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from fakes import MemoryRegistry, MemoryStore
from ratchet.adapters.ledger import ObjectLedger
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.adapters.signing import Signer
from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.errors import LedgerBroken, SettingsInvalid
from ratchet.steps import turns
from ratchet.steps.context import Services

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

DAY = date(2024, 1, 10)
ACTIONS = ("bootstrap", "promote", "freeze", "rollback")
OURS, THEIRS, NEXT = (Signer(Ed25519PrivateKey.from_private_bytes(bytes([n] * 32))) for n in (1, 2, 3))


def entry(after: LedgerEntry | None, pipeline: str) -> LedgerEntry:
    """Return the entry that follows another, with no field at its default that need not be."""
    seq = after.seq + 1 if after else 1
    champion = Champion(
        version=seq % 3 + 1,
        run_key=f"run{seq}",
        artifact_digest=f"digest{seq}",
        cutoff=DAY,
        seen_through=DAY,
        mlflow_run_id=f"id{seq}",
        recipe="recipe",
    )
    return LedgerEntry(
        seq=seq,
        previous=after.hash if after else GENESIS,
        pipeline=pipeline,
        action=ACTIONS[(seq - 1) % 4],
        champion=champion,
        judged_through=DAY,
        night=f"run{seq}",
        verdict="verdict",
        reasons=("auc: good", "smoke test: good"),
        actor="schedule",
        approved_by="jane",
        reason="because",
        at=(datetime(2024, 1, 10, tzinfo=UTC) + timedelta(hours=seq)).isoformat(),
    )


def resealed(text: dict[str, Any], signer: Signer | None = None) -> dict[str, Any]:
    """Return an entry with a hash that fits, as a forger makes it; signed, where he has a key."""
    made = LedgerEntry.model_validate({**text, **({"key": signer.public.fingerprint} if signer else {})}).sealed()
    if signer:
        made = made.model_copy(update={"signature": signer.sign(made.hash)})
    return json.loads(made.as_json())


def rewritten(
    texts: Sequence[dict[str, Any]], start: int, signer: Signer | None = None, **change: Any
) -> Iterator[dict[str, Any]]:
    """Yield a chain of which everything from an entry on was made anew, with fresh hashes."""
    previous = texts[start - 1]["previous"]
    for text in texts[start - 1 :]:
        bare = {k: v for k, v in text.items() if k not in {"hash", "signature", "key"}}
        made = resealed({**bare, **change, "previous": previous}, signer)
        previous = made["hash"]
        yield made


@dataclass
class Place:
    """A ledger and its registry, as somebody who may write to both sees them."""

    store: Any
    registry: Any
    pipeline: str

    def services(self, signer: Signer | None = None, trusted: Sequence[Any] = ()) -> Services:
        """Return what a step is given, with an empty memory."""
        unused: Any = None
        return Services(
            store=self.store,
            engine=unused,
            validator=unused,
            trainer=unused,
            registry=self.registry,
            ledger=ObjectLedger(self.store, signer, trusted),
            reporter=unused,
            cache=unused,
        )

    def write(self, number: int, signer: Signer | None = None) -> None:
        """Append entries as Ratchet does, and anchor them."""
        services = self.services(signer)
        entries = services.ledger.entries(self.pipeline)
        for _ in range(number):
            made = services.ledger.append(entry(entries[-1] if entries else None, self.pipeline))
            self.registry.anchor(self.pipeline, made.seq, made.hash)
            entries = (*entries, made)

    def key(self, seq: int) -> str:
        """Return where an entry lies."""
        return f"ledger/{self.pipeline}/{seq:08d}.json"

    def texts(self) -> list[dict[str, Any]]:
        """Return what is stored."""
        return [json.loads(self.store.get(found.uri)) for found in self.store.list(f"ledger/{self.pipeline}/")]

    def put(self, seq: int, text: dict[str, Any]) -> None:
        """Write an entry by hand."""
        self.store.put(self.key(seq), json.dumps(text).encode())

    def remove(self, seq: int) -> None:
        """Delete an entry by hand."""
        if isinstance(self.store, MemoryStore):
            self.store.delete(self.key(seq))
        else:
            self.store.client.delete_object(Bucket=self.store.bucket, Key=self.key(seq))

    def forge_anchors(self) -> None:
        """Let the registry remember what lies there now, and nothing else."""
        for seq in self.registry.anchors(self.pipeline):
            if isinstance(self.registry, MemoryRegistry):
                del self.registry._anchors[self.pipeline][seq]
            else:
                self.registry.client.delete_registered_model_tag(self.pipeline, f"ratchet.ledger.{seq:08d}")
        for text in self.texts():
            self.registry.anchor(self.pipeline, text["seq"], text["hash"])

    def broken(self, words: str, services: Services | None = None) -> None:
        """Expect that the ledger is refused, in words that say what to do."""
        with pytest.raises(LedgerBroken, match=f"ledger of {self.pipeline}, entry .*{words}.*(restore|add its public)"):
            turns.read(services or self.services(), self.pipeline)


@pytest.fixture(params=("memory", "servers"))
def place(request, tmp_path):
    """A place without entries."""
    pipeline = f"p{uuid.uuid4().hex[:12]}"
    if request.param == "memory":
        return Place(MemoryStore(tmp_path / "objects"), MemoryRegistry(tmp_path / "models"), pipeline)
    stack = request.getfixturevalue("stack")
    registry = MlflowRegistry(stack.environment["MLFLOW_TRACKING_URI"], tmp_path / "cache")
    return Place(request.getfixturevalue("s3"), registry, pipeline)


def changed(value: Any) -> Any:
    """Return another value of the same kind."""
    if isinstance(value, dict):
        return None
    if isinstance(value, list):
        return value[:-1]
    if isinstance(value, int):
        return value + 1
    for kind in (date.fromisoformat, datetime.fromisoformat):
        try:
            found = kind(value)
        except ValueError:
            continue
        return found.replace(year=found.year + 1).isoformat()
    return "freeze" if value in {"bootstrap", "promote", "rollback"} else "thaw" if value == "freeze" else value + "x"


def edits(text: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield an entry with each of its fields changed, with each left out, and with each that it lacks."""
    for name, value in text.items():
        yield name, {**text, name: changed(value)}
        if not LedgerEntry.model_fields[name].is_required():
            yield f"no {name}", {k: v for k, v in text.items() if k != name}
    for name in text["champion"]:
        yield f"champion.{name}", {**text, "champion": {**text["champion"], name: changed(text["champion"][name])}}
    lacking = {"certified": "r", "until": "2030-01-01", "key": "k", "signature": "s"}
    for name in lacking.keys() - text.keys():
        yield f"new {name}", {**text, name: lacking[name]}


@pytest.mark.parametrize("signer", [None, OURS], ids=["unsigned", "signed"])
def test_every_edit_of_every_field_of_every_entry_is_found(place, signer):
    """Whatever is changed, left out or added in whichever entry breaks the ledger; put back, it holds again."""
    place.write(4, signer)
    services, seen = place.services(signer), set()
    for seq, text in enumerate(place.texts(), start=1):
        for name, edited in edits(text):
            place.put(seq, edited)
            with pytest.raises(LedgerBroken, match=f"ledger of {place.pipeline}, entry {seq:08d}: "):
                services.ledger.entries(place.pipeline)
            seen.add(name.split()[-1].split(".")[0])
        place.put(seq, text)
    assert seen >= set(LedgerEntry.model_fields) - (set() if signer else {"key", "signature"})
    assert len(turns.read(services, place.pipeline)) == 4


@pytest.mark.parametrize("signer", [None, OURS], ids=["unsigned", "signed"])
@pytest.mark.parametrize(
    ("gone", "words"),
    [
        ([1], "entry 2 stands in its place"),
        ([2], "entry 3 stands in its place"),
        ([4], "which the registry remembers, found no such entry: it is gone"),
        ([3, 4], "it is gone"),
        ([1, 2, 3, 4], "it is gone"),
    ],
    ids=["first", "middle", "last", "tail", "all"],
)
def test_any_removed_entry_is_found(place, signer, gone, words):
    """The first, the middle, the last, and all of them: the chain or the anchors miss it."""
    place.write(4, signer)
    for seq in gone:
        place.remove(seq)
    place.broken(words, place.services(signer))


def test_another_order_is_found(place):
    """Entries that changed places are found, whether their numbers went with them or not."""
    place.write(4)
    texts = place.texts()
    place.put(2, texts[2])
    place.put(3, texts[1])
    place.broken("it was moved or copied there")
    place.put(2, {**texts[2], "seq": 2})
    place.put(3, {**texts[1], "seq": 3})
    place.broken("does not continue the entry before it: expected previous hash [0-9a-f]{16}, found [0-9a-f]{16}")


def test_entries_of_another_pipeline_are_found(place):
    """Neither a copied ledger nor a copied entry passes for this pipeline's."""
    place.write(2)
    other = Place(place.store, place.registry, place.pipeline + "-other")
    other.write(2)
    mine, theirs = place.texts(), other.texts()
    for seq in (1, 2):
        place.put(seq, theirs[seq - 1])
    place.broken("it was moved or copied there")
    for seq, text in enumerate(rewritten([{**text, "pipeline": place.pipeline} for text in theirs], 1), start=1):
        place.put(seq, {**text, "actor": "forger"})
    place.broken("it was edited")
    for seq in (1, 2):
        place.put(seq, mine[seq - 1])
    assert len(turns.read(place.services(), place.pipeline)) == 2


@pytest.mark.parametrize("start", [1, 3, 4])
def test_a_tail_with_fresh_hashes_is_found(place, start):
    """A chain that was made anew from some entry on fits itself, but not what the registry remembers."""
    place.write(4)
    for seq, text in enumerate(rewritten(place.texts(), start, actor="forger"), start=start):
        place.put(seq, text)
    place.services().ledger.entries(place.pipeline)
    place.broken("it was written anew")


def stripped(texts):
    """Forge: make all of it anew, without signatures."""
    return rewritten(texts, 1, actor="forger")


def foreign(texts):
    """Forge: make all of it anew, signed by a key of one's own."""
    return rewritten(texts, 1, THEIRS, actor="forger")


def borrowed(texts):
    """Forge: make all of it anew, with the names and signatures that were there."""
    for text, old in zip(rewritten(texts, 1, OURS, actor="forger"), texts, strict=True):
        yield {**text, "signature": old["signature"]}


def kept(texts):
    """Forge: leave the first half as it is, and make the rest anew without signatures."""
    yield from texts[:2]
    yield from rewritten(texts, 3, actor="forger")


@pytest.mark.parametrize(
    ("forge", "words"),
    [
        (stripped, "expected a signature by one of the trusted keys .*, found none on this or any entry before it"),
        (foreign, "expected a signature by a trusted key .*, found one by key "),
        (borrowed, "its signature is not one of its hash"),
        (kept, "expected a signature, because entry 2 before it is signed, found none"),
    ],
)
def test_a_ledger_that_was_made_anew_with_its_anchors_is_found_by_its_signatures(
    place, forge: Callable[[Any], Any], words
):
    """Whoever may write to store and registry, but has no trusted key, cannot make another history."""
    place.write(4, OURS)
    for seq, text in enumerate(list(forge(place.texts())), start=1):
        place.put(seq, text)
    place.forge_anchors()
    place.broken(words, place.services(trusted=[OURS.public]))


def test_without_keys_a_ledger_that_was_made_anew_with_its_anchors_passes(place):
    """What signatures are for: chain and anchors alone cannot tell."""
    place.write(3)
    for seq, text in enumerate(list(stripped(place.texts())), start=1):
        place.put(seq, text)
    place.forge_anchors()
    assert {e.actor for e in turns.read(place.services(), place.pipeline)} == {"forger"}


@pytest.mark.parametrize("seq", [1, 2, 4])
def test_one_stripped_signature_is_found(place, seq):
    """Without any key at hand: an entry names its key, and the hash covers the name."""
    place.write(4, OURS)
    text = place.texts()[seq - 1]
    place.put(seq, {k: v for k, v in text.items() if k != "signature"})
    place.broken("found none: it was removed")
    place.put(seq, {k: v for k, v in text.items() if k not in {"signature", "key"}})
    place.broken("it was edited")


def test_keys_can_be_rotated(place):
    """Entries of the old and of the new key hold where both are trusted; a key that is trusted no longer is named."""
    place.write(2, OURS)
    rotated = place.services(NEXT, [OURS.public])
    head = turns.read(rotated, place.pipeline)[-1]
    made = rotated.ledger.append(entry(head, place.pipeline))
    place.registry.anchor(place.pipeline, made.seq, made.hash)
    assert len(turns.read(place.services(trusted=[OURS.public, NEXT.public]), place.pipeline)) == 3
    place.broken(f"found one by key {OURS.public.fingerprint[:16]}", place.services(trusted=[NEXT.public]))


def test_a_ledger_that_began_unsigned_is_vouched_for_by_a_signature(place):
    """Where keys are trusted it is refused until somebody signs; from then on nothing before or after may change."""
    place.write(2)
    place.broken("ratchet ledger sign", place.services(OURS))
    place.write(1, None)
    unverified = place.services().ledger.entries(place.pipeline)
    signs = ObjectLedger(place.store, OURS)
    made = signs.append(entry(unverified[-1], place.pipeline).model_copy(update={"action": "sign"}))
    assert made.signature
    assert len(turns.read(place.services(OURS), place.pipeline)) == 4
    for seq, text in enumerate(rewritten(place.texts()[:3], 1, actor="forger"), start=1):
        place.put(seq, text)
    place.broken("does not continue the entry before it", place.services(OURS))


def test_who_has_no_key_does_not_write_to_a_signed_ledger(place):
    """A promoter without its key is told so, instead of leaving a ledger that nobody can verify."""
    place.write(2, OURS)
    head = place.services().ledger.entries(place.pipeline)[-1]
    for services in (place.services(), place.services(trusted=[OURS.public])):
        with pytest.raises(
            SettingsInvalid, match=f"RATCHET_SIGNING_KEY=.*to sign entry 3 of the ledger of {place.pipeline}"
        ):
            services.ledger.append(entry(head, place.pipeline))
    assert len(place.texts()) == 2


def test_an_entry_that_waits_for_its_anchor_gets_it(place):
    """A crash between entry and anchor heals; asking alone writes nothing."""
    place.write(2)
    head = place.services().ledger.entries(place.pipeline)[-1]
    made = place.services().ledger.append(entry(head, place.pipeline))
    assert len(turns.look(place.services(), place.pipeline)) == 3
    assert len(place.registry.anchors(place.pipeline)) == 2
    turns.read(place.services(), place.pipeline)
    assert place.registry.anchors(place.pipeline)[3] == made.hash


def test_what_is_no_entry_is_found(place):
    """A stray object, a list, an unknown field: none is skipped."""
    place.write(1)
    stray = f"ledger/{place.pipeline}/00000002.json"
    for body in (b"", b"[]", b"{}", b"\xff", json.dumps({**place.texts()[0], "extra": 1}).encode()):
        place.store.put(stray, body)
        place.broken("is not a ledger entry")


def test_entries_that_were_read_are_not_read_again(place):
    """Only what is new is asked for; what was overwritten is new."""
    place.write(3)
    services = place.services()
    turns.read(services, place.pipeline)
    gets: list[str] = []
    get, services.ledger._store.get = services.ledger._store.get, lambda uri: (gets.append(uri), get(uri))[1]
    try:
        turns.read(services, place.pipeline)
        assert gets == []
        place.write(1)
        gets.clear()
        assert len(turns.read(services, place.pipeline)) == 4
        assert [uri.rpartition("/")[2] for uri in gets] == ["00000004.json"]
        place.put(2, {**place.texts()[1], "actor": "forger"})
        place.broken("it was edited", services)
    finally:
        del services.ledger._store.get
