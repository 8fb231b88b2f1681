"""Which code a result depends on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import ratchet
from ratchet import provenance

ROOT = Path(ratchet.__file__).parent


@pytest.fixture
def package(tmp_path):
    """Return a copy of the package's code."""
    copy = tmp_path / "ratchet"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns("__pycache__"))
    return copy


@pytest.mark.parametrize(
    "name",
    ["steps/train.py", "domain/rules.py", "adapters/duck.py", "adapters/gx.py", "spec.py", "tables.py", "ports.py"],
)
def test_code_that_decides_is_in_the_digest(package, name):
    """A change in what fits, validates or judges is another code."""
    before = provenance.digest_of(package)
    (package / name).write_text((package / name).read_text() + "\n# changed\n")
    assert provenance.digest_of(package) != before


@pytest.mark.parametrize("name", sorted(provenance._DECIDE_NOTHING))
def test_code_that_decides_nothing_is_not_in_the_digest(package, name):
    """What only tells, keeps or deletes can be changed without making nights anew, and each name in the list is a module."""
    before = provenance.digest_of(package)
    (package / name).write_text((package / name).read_text() + "\n# changed\n")
    assert provenance.digest_of(package) == before


def test_what_the_gated_metrics_are_made_with_decides(package):
    """The spec's own metrics are computed beside their intervals, over the same weights: a gate may bound them."""
    before = provenance.digest_of(package)
    (package / "domain" / "intervals.py").write_text("")
    assert provenance.digest_of(package) != before


def test_a_new_module_decides_until_somebody_says_that_it_does_not(package):
    """The list names what may be left out, so that what nobody thought of is in."""
    before = provenance.digest_of(package)
    (package / "steps" / "new.py").write_text("")
    assert provenance.digest_of(package) != before


def test_a_fit_has_as_many_threads_as_its_container_may_keep_busy(tmp_path):
    """A share of the processors counts in whole ones, one at least; without a limit all count that the system lets the process use."""
    free, quota = provenance.cpus(tmp_path / "none"), tmp_path / "cpu.max"
    found = {}
    for words in ("max 100000", "50000 100000", "100000 100000", "9900000 100000"):
        quota.write_text(f"{words}\n")
        found[words] = provenance.cpus(quota)
    assert found == {"max 100000": free, "50000 100000": 1, "100000 100000": 1, "9900000 100000": min(free, 99)}
