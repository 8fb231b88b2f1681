"""The state folder: private, locked, and careful with secrets."""

from __future__ import annotations

import json
import stat

import pytest

from ratchet.errors import ServiceError
from ratchet.stack.folder import Folder, Plan, Secrets, load, save, secrets_of


@pytest.fixture
def folder(tmp_path):
    """Return a made folder."""
    made = Folder(tmp_path / "state")
    made.make()
    return made


def _mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def test_the_folder_and_its_secrets_are_the_owners_alone(folder):
    """Nobody else on the machine reads a password."""
    secrets_of(folder)
    assert _mode(folder.root) == 0o700
    assert _mode(folder.secrets) == 0o600


def test_secrets_are_drawn_once_and_differ_between_folders(folder, tmp_path):
    """A second `up` logs people in as before; another stack has other passwords."""
    first = secrets_of(folder)
    other = Folder(tmp_path / "other")
    other.make()
    assert secrets_of(folder) == first
    assert secrets_of(other).passwords["admin"] != first.passwords["admin"]


def test_a_secret_that_a_later_version_needs_is_added(folder):
    """What is there stays as it is."""
    old = secrets_of(folder).model_dump()
    del old["postgres"]
    folder.secrets.write_text(json.dumps(old))
    found = secrets_of(folder)
    assert found.postgres
    assert found.passwords == old["passwords"]


def test_damaged_secrets_are_not_replaced(folder):
    """New ones would lock everybody out of the data."""
    folder.secrets.write_text("{")
    with pytest.raises(ServiceError, match="damaged"):
        secrets_of(folder)
    assert folder.secrets.read_text() == "{"


def test_a_second_up_at_the_same_time_is_told_so(folder):
    """The folder is changed by one command at a time."""
    with folder.locked(), pytest.raises(ServiceError, match="another `ratchet up` or `down`"), folder.locked():
        pass


def test_a_record_that_is_missing_or_cut_off_reads_as_none(folder):
    """A kill -9 in the middle costs the record, not the command."""
    assert load(folder.plan, Plan) is None
    folder.plan.write_text('{"services": ["s3"')
    assert load(folder.plan, Plan) is None


def test_a_record_comes_back_as_it_was_saved(folder):
    """And no temporary file stays."""
    save(folder.secrets, drawn := Secrets.generate())
    assert load(folder.secrets, Secrets) == drawn
    assert not list(folder.root.glob(".secrets*"))
