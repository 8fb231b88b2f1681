"""The base of every record that is stored or handed from task to task."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record that forbids unknown fields, so that a misspelt key cannot pass unseen."""

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")


def canonical(value: Any) -> bytes:
    """Render JSON-able ``value`` in one way only: sorted keys, no white space, UTF-8."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=True).encode()


def sha256(data: bytes) -> str:
    """Return the hexadecimal sha256 of ``data``."""
    return hashlib.sha256(data).hexdigest()


def digest(value: Any) -> str:
    """Return the hexadecimal sha256 of ``value``'s canonical JSON."""
    return sha256(canonical(value))
