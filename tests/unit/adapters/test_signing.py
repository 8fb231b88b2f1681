"""Keys and signatures: what openssl makes is taken, what openssl checks agrees, and what is unfit is refused in words."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess

import pytest

from ratchet.adapters.signing import signer, trusted_keys
from ratchet.errors import SettingsInvalid
from ratchet.settings import settings
from ratchet.wiring import ledger

HASH = hashlib.sha256(b"an entry").hexdigest()


def openssl(*words):
    """Run openssl as the docs do."""
    return subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True).stdout


@pytest.fixture
def private(tmp_path):
    """A private key that only its owner can read."""
    path = tmp_path / "key.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", path)
    path.chmod(0o600)
    return path


@pytest.fixture
def public(private, tmp_path):
    """Its public half."""
    path = tmp_path / "key.pub.pem"
    openssl("pkey", "-in", private, "-pubout", "-out", path)
    return path


def test_a_signature_is_one_that_openssl_accepts(private, public, tmp_path):
    """Nobody needs Ratchet to check an entry: openssl says that the signature is good, and counts the same fingerprint."""
    made = signer(private)
    (tmp_path / "signature").write_bytes(base64.b64decode(made.sign(HASH)))
    (tmp_path / "words").write_text(f"ratchet-ledger:{HASH}")
    checked = ["-verify", "-pubin", "-inkey", public, "-rawin", "-in", tmp_path / "words"]
    assert b"Success" in openssl("pkeyutl", *checked, "-sigfile", tmp_path / "signature")
    raw = openssl("pkey", "-pubin", "-in", public, "-outform", "DER")[-32:]
    assert made.public.fingerprint == hashlib.sha256(raw).hexdigest()


def test_a_signature_holds_for_its_hash_and_key_alone(private, public, tmp_path):
    """Another hash, another key, or anything that is no signature does not hold."""
    signature = signer(private).sign(HASH)
    (key,) = trusted_keys(public)
    assert key.holds(HASH, signature)
    other = tmp_path / "other.pem"
    openssl("genpkey", "-algorithm", "ed25519", "-out", other)
    other.chmod(0o600)
    assert not signer(other).public.holds(HASH, signature)
    for hash_, wrong in ((HASH[::-1], signature), (HASH, ""), (HASH, "é"), (HASH, "AAAA"), (HASH, signature[:-4])):
        assert not key.holds(hash_, wrong)


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(private, mode):
    """The message says how it stands and how to mend it."""
    private.chmod(mode)
    with pytest.raises(SettingsInvalid, match=f"nobody but its owner can read, found mode {mode:04o}: chmod 600"):
        signer(private)


def test_a_locked_key_needs_its_password(private, tmp_path):
    """Without it, with a wrong one, and with one that nothing needs, the words say so, and never the password."""
    locked = tmp_path / "locked.pem"
    openssl("pkey", "-in", private, "-aes256", "-passout", "pass:canary", "-out", locked)
    locked.chmod(0o600)
    assert signer(locked, "canary").public.fingerprint == signer(private).public.fingerprint
    with pytest.raises(SettingsInvalid, match="RATCHET_SIGNING_KEY_PASSWORD too, because this key is locked"):
        signer(locked)
    with pytest.raises(SettingsInvalid, match="or RATCHET_SIGNING_KEY_PASSWORD is wrong"):
        signer(locked, "wrong")
    with pytest.raises(SettingsInvalid, match="is not locked") as caught:
        signer(private, "canary")
    assert "canary" not in str(caught.value)


def test_what_is_no_ed25519_key_is_refused(public, tmp_path):
    """Garbage, another kind of key, a public key, a file that is not there: each in words, and how to make a right one."""
    rsa, garbage = tmp_path / "rsa.pem", tmp_path / "garbage.pem"
    openssl("genpkey", "-algorithm", "rsa", "-pkeyopt", "rsa_keygen_bits:2048", "-out", rsa)
    garbage.write_text("no key at all")
    for path, words in (
        (rsa, "another kind"),
        (garbage, "Ed25519 private key as PEM"),
        (public, "Ed25519 private key"),
        (tmp_path / "gone.pem", "No such file"),
        (tmp_path, "Is a directory"),
    ):
        if path.is_file():
            path.chmod(0o600)
        with pytest.raises(SettingsInvalid, match=words):
            signer(path)
    for path, words in ((rsa, "found a private key"), (garbage, "no PEM"), (tmp_path / "gone.pem", "No such file")):
        with pytest.raises(SettingsInvalid, match=words):
            trusted_keys(path)
    openssl("pkey", "-in", rsa, "-pubout", "-out", tmp_path / "rsa.pub.pem")
    with pytest.raises(SettingsInvalid, match="another kind"):
        trusted_keys(tmp_path / "rsa.pub.pem")


def test_a_private_key_does_not_lie_among_the_trusted(private):
    """What everybody may read is no place for it."""
    with pytest.raises(SettingsInvalid, match="private key, which must not lie here"):
        trusted_keys(private)


def test_trusted_keys_are_a_file_of_several_or_a_folder(public, tmp_path):
    """Keys that were rotated stay trusted side by side; a folder without any is a mistake."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    with pytest.raises(SettingsInvalid, match="found none"):
        trusted_keys(folder)
    openssl("genpkey", "-algorithm", "ed25519", "-out", tmp_path / "new.pem")
    openssl("pkey", "-in", tmp_path / "new.pem", "-pubout", "-out", folder / "new.pub.pem")
    (folder / "old.pub.pem").write_bytes(public.read_bytes())
    both = tmp_path / "both.pem"
    both.write_bytes(public.read_bytes() + b"\n# the new one\n" + (folder / "new.pub.pem").read_bytes())
    found = {key.fingerprint for key in trusted_keys(folder)}
    assert len(found) == 2
    assert {key.fingerprint for key in trusted_keys(both)} == found


def test_the_keys_come_from_the_environment(private, public):
    """A signer trusts itself; the password is not shown where the settings are."""
    found = settings({"RATCHET_SIGNING_KEY": str(private), "RATCHET_SIGNING_KEY_PASSWORD": "canary"})
    assert "canary" not in repr(found) + found.model_dump_json()
    signs = ledger(None, settings({"RATCHET_SIGNING_KEY": str(private)}))
    reads = ledger(None, settings({"RATCHET_TRUSTED_KEYS": str(public)}))
    assert signs.trusted == reads.trusted
    assert ledger(None, settings({})).trusted == frozenset()


def test_an_entry_is_hashed_as_it_is_stored(tmp_path):
    """The sha256 of the stored JSON, sorted and without white space, hash and signature, is the hash: any tool can count it."""
    from datetime import date

    from fakes import MemoryStore
    from ratchet.adapters.ledger import ObjectLedger
    from ratchet.domain.ledger import GENESIS, LedgerEntry

    store = MemoryStore(tmp_path)
    facts = {"actor": "jürgen", "reason": '5 ≥ 3 "so"', "reasons": ("a\nb",), "at": "2024-01-10T00:00:00+00:00"}
    entry = LedgerEntry(
        seq=1, previous=GENESIS, pipeline="p", action="freeze", champion=None, judged_through=date(2024, 1, 9), **facts
    )
    made = ObjectLedger(store).append(entry)
    stored = json.loads(store.get("ledger/p/00000001.json"))
    assert stored.pop("hash") == made.hash
    plain = json.dumps(stored, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert hashlib.sha256(plain.encode()).hexdigest() == made.hash
