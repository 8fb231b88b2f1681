"""Ed25519 signatures of ledger entries, by the ``cryptography`` library; keys are PEM files, as openssl writes them."""

from __future__ import annotations

import base64
import re
import stat
from typing import TYPE_CHECKING

from ratchet.domain.ledger import signed_words
from ratchet.domain.records import sha256
from ratchet.errors import SettingsInvalid

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

_BLOCK = re.compile(rb"-----BEGIN ([A-Z ]+)-----.*?-----END \1-----", re.DOTALL)
_SIGNING, _PASSWORD, _TRUSTED = "RATCHET_SIGNING_KEY", "RATCHET_SIGNING_KEY_PASSWORD", "RATCHET_TRUSTED_KEYS"
_MAKE = "`openssl genpkey -algorithm ed25519 -out key.pem` makes one"


class PublicKey:
    """A key that is trusted."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.fingerprint = sha256(key.public_bytes_raw())

    def holds(self, entry_hash: str, signature: str) -> bool:
        """Say whether a signature of an entry's hash was made by this key."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(base64.b64decode(signature, validate=True), signed_words(entry_hash))
        except (InvalidSignature, ValueError):
            return False
        return True


class Signer:
    """A key that signs."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())

    def sign(self, entry_hash: str) -> str:
        """Return the signature of an entry's hash, base64."""
        return base64.b64encode(self._key.sign(signed_words(entry_hash))).decode()


def signer(path: Path, password: str | None = None) -> Signer:
    """Read the private key that signs; nobody but its owner may be able to read it.

    Raises:
        SettingsInvalid: it cannot be read, others can read it, it is locked, or it is no Ed25519 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    data = _read(_SIGNING, path)
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        raise SettingsInvalid(
            _SIGNING, str(path), f"a file that nobody but its owner can read, found mode {mode:04o}: chmod 600 {path}"
        )
    try:
        key = load_pem_private_key(data, password.encode() if password else None)
    except TypeError as exc:  # so the library says that a password is missing, or that there is nothing to unlock
        wanted = (
            f"no password, because {path} is not locked" if password else f"{_PASSWORD} too, because this key is locked"
        )
        raise SettingsInvalid(_PASSWORD if password else _SIGNING, "…" if password else str(path), wanted) from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        wrong = f"; or {_PASSWORD} is wrong" if password else ""
        raise SettingsInvalid(_SIGNING, str(path), f"an Ed25519 private key as PEM{wrong}; {_MAKE}") from exc
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsInvalid(_SIGNING, str(path), f"an Ed25519 private key, found a key of another kind; {_MAKE}")
    return Signer(key)


def trusted_keys(path: Path, name: str = _TRUSTED) -> tuple[PublicKey, ...]:
    """Read the public keys whose signatures count: every one of a file, or of a folder's ``*.pem``.

    Args:
        path: the file or folder.
        name: what the person who named it knows it as.

    Raises:
        SettingsInvalid: there is none, or something else stands there.
    """
    files = sorted(path.glob("*.pem")) if path.is_dir() else [path]
    found = tuple(key for file in files for key in _public_keys(file, name))
    if not found:
        raise SettingsInvalid(name, str(path), "PEM files of public keys (*.pem) in this folder, found none")
    return found


def _public_keys(path: Path, name: str) -> list[PublicKey]:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    expected = "Ed25519 public keys as PEM; `openssl pkey -in key.pem -pubout -out key.pub.pem` makes one"
    blocks = list(_BLOCK.finditer(_read(name, path)))
    if not blocks:
        raise SettingsInvalid(name, str(path), f"{expected}; found no PEM")
    made = []
    for block in blocks:
        if b"PRIVATE" in block[1]:
            raise SettingsInvalid(name, str(path), f"{expected}; found a private key, which must not lie here")
        try:
            key = load_pem_public_key(block[0])
        except (ValueError, UnsupportedAlgorithm) as exc:
            raise SettingsInvalid(name, str(path), f"{expected}; found {block[1].decode()}") from exc
        if not isinstance(key, Ed25519PublicKey):
            raise SettingsInvalid(name, str(path), f"{expected}; found a key of another kind")
        made.append(PublicKey(key))
    return made


def _read(name: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise SettingsInvalid(name, str(path), f"a file that can be read: {exc.strerror}") from exc
