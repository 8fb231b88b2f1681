"""The page on gates: every example is one, and every kind has its place."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import yaml
from pydantic import TypeAdapter

from ratchet.domain.gates import Gate

PAGE = (Path(__file__).parents[2] / "docs" / "gates.md").read_text()
KINDS = {m.model_fields["kind"].annotation.__args__[0]: m for m in get_args(get_args(Gate)[0])}
SECTIONS = dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGE, re.MULTILINE | re.DOTALL))


def test_every_kind_has_a_section_and_a_row():
    """A gate that can be written is described, and listed with what it does out of bounds."""
    assert SECTIONS.keys() >= KINDS.keys()
    assert all(f"[`{kind}`](#{kind})" in PAGE for kind in KINDS)


@pytest.mark.parametrize("name", [*SECTIONS])
def test_every_example_is_a_gate(name):
    """What the page shows can be copied into a spec, and shows the kind that its section is about."""
    for text in re.findall(r"```yaml\n(.*?)```", SECTIONS[name], re.DOTALL):
        given = yaml.safe_load(text)
        gates = given["gates"] if isinstance(given, dict) else given
        found = TypeAdapter(tuple[Gate, ...]).validate_python(gates)
        assert name not in KINDS or {g.kind for g in found} == {name}


@pytest.mark.parametrize("kind", [*KINDS])
def test_every_knob_is_described(kind):
    """Each field of each gate has a description, which is what editors show."""
    assert all(field.description for field in KINDS[kind].model_fields.values())
