"""The ledger from the command line, on real servers: verified, exported, signed, asked who served when, and broken by hand."""

from __future__ import annotations

import contextlib
import io
import json
import subprocess
import sys
import uuid
from dataclasses import dataclass, replace
from datetime import date
from typing import TYPE_CHECKING, Any, cast

import pytest

from integration.conftest import World
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.adapters.s3 import S3Store
from ratchet.cli import main
from samples.data import SAMPLES

if TYPE_CHECKING:
    from pathlib import Path

    from ratchet.stack import Embedded

CUTOFF = date(2024, 3, 9)


def keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a key pair as the docs say: by openssl."""
    private, public = folder / f"{name}.pem", folder / f"{name}.pub.pem"
    for words in (
        ["genpkey", "-algorithm", "ed25519", "-out", private],
        ["pkey", "-in", private, "-pubout", "-out", public],
    ):
        subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)
    private.chmod(0o600)
    return private, public


@dataclass
class Records:
    """A world in which one signed night has made a champion."""

    world: World
    public: Path
    night: dict

    def __call__(self, *words: str) -> tuple[int, dict, str]:
        """Run a command with ``--json``."""
        return self.world.ratchet(*words, "--home", str(self.world.home("churn")))

    def told(self, *words: str) -> tuple[int, str]:
        """Run a command as a person does."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.world.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["ratchet", *words, "--home", str(self.world.home("churn"))])
            self.world.capsys.readouterr()
            status = 0
            try:
                main()
            except SystemExit as exc:
                status = int(exc.code or 0)
        out, err = self.world.capsys.readouterr()
        return status, out + err

    def found(self, *words: str) -> dict[str, str]:
        """Verify, and return what does not hold."""
        status, audit, _ = self("ledger", "verify", "churn", *words)
        wrong = {f["name"]: f["reason"] for f in audit["findings"] if f["outcome"] in {"FAIL", "UNDECIDED"}}
        assert (status, audit["holds"]) == ((1, False) if wrong else (0, True))
        return wrong


@pytest.fixture(scope="module")
def signed(stack: Embedded, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, str], S3Store, Path, dict]:
    """One night of the churn sample, signed: environment, store, public key and what the night said."""
    folder = tmp_path_factory.mktemp("signed")
    private, public = keys(folder, "promoter")
    client = MlflowRegistry(stack.environment["MLFLOW_TRACKING_URI"], folder).client
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    bucket, cache = f"test-{uuid.uuid4().hex[:20]}", folder / "cache"
    own = {"RATCHET_BUCKET": bucket, "RATCHET_CACHE": str(cache), "RATCHET_SIGNING_KEY": str(private)}
    store = S3Store(stack.environment["RATCHET_S3_ENDPOINT"], bucket, cache)
    for key, data in SAMPLES["churn"](date(2024, 1, 20), CUTOFF):
        store.put(key, data)
    world, said = World({**stack.environment, **own}, store, cast("Any", None)), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        for name, value in world.environment.items():
            patch.setenv(name, value)
        home = str(world.home("churn"))
        patch.setattr(sys, "argv", ["ratchet", "run", "churn", "--cutoff", str(CUTOFF), "--home", home, "--json"])
        main()
    night = json.loads(said.getvalue())
    assert night["outcome"] == "promoted", night
    return world.environment, store, public, night


@pytest.fixture
def records(signed: tuple[dict[str, str], S3Store, Path, dict], capsys: pytest.CaptureFixture[str]) -> Records:
    """The records of that night; a test that breaks them mends them."""
    environment, store, public, night = signed
    return Records(World(environment, store, capsys), public, night)


def test_a_signed_night_holds_and_is_told(records, tmp_path):
    """Verify, show, export, and who served: for people and as JSON; the export holds offline, by its key alone."""
    assert records.found("--deep") == {}
    status, both, _ = records("ledger", "verify", "--all")
    assert (status, both["holds"], [p["pipeline"] for p in both["pipelines"]]) == (0, True, ["churn"])
    status, said = records.told("ledger", "show", "churn")
    assert status == 0
    assert "bootstrap: v1 serves (cutoff 2024-03-09)" in said
    export = tmp_path / "ledger.jsonl"
    assert records.told("ledger", "export", "churn", "-o", str(export)) == (0, "")
    assert records.told("ledger", "export", "churn") == (0, export.read_text())
    assert records.found("--against", str(export)) == {}
    nowhere = {"RATCHET_S3_ENDPOINT": "http://127.0.0.1:9", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9"}
    offline = replace(records.world, environment=nowhere)
    words = ("ledger", "verify", "--file", str(export), "--key", str(records.public))
    status, audit, _ = offline.ratchet(*words)
    assert (status, audit["holds"], audit["entries"]) == (0, True, 1)
    export.write_text(export.read_text().replace('"bootstrap"', '"promote"'))
    status, audit, _ = offline.ratchet(*words)
    assert (status, audit["holds"]) == (1, False)
    assert "it was edited" in audit["findings"][0]["reason"]


def test_an_export_is_held_against_the_key_that_is_given(records, tmp_path):
    """Another key is not trusted; with none, a signed export is not verified, and so does not hold."""
    export = tmp_path / "ledger.jsonl"
    records.told("ledger", "export", "churn", "-o", str(export))
    _, other = keys(tmp_path, "other")
    status, audit, _ = records.world.ratchet("ledger", "verify", "--file", str(export), "--key", str(other))
    assert (status, "found one by key" in audit["findings"][0]["reason"]) == (1, True)
    status, audit, _ = records.world.ratchet("ledger", "verify", "--file", str(export))
    assert (status, audit["findings"][1]["outcome"]) == (1, "UNDECIDED")


def test_who_served_is_answered_for_any_moment(records):
    """Now, and before anybody did; with everything that an auditor asks, and that it still verifies."""
    status, then, _ = records("history", "churn", "--at", "2099-12-31")
    assert (status, then["version"], then["verifies"], then["until"]) == (0, 1, True, None)
    assert then["learnt"]["snapshot"] == records.night["snapshot"]["digest"]
    assert then["learnt"]["rows"] == records.night["snapshot"]["rows"]
    assert then["verdict"]["checks"] == records.night["checks"]
    assert then["entry"]["champion"]["artifact_digest"] == records.night["artifact_digest"]
    status, said = records.told("history", "churn", "--at", "2099-12-31T12:00+02:00")
    assert status == 0
    for words in (
        "churn at 2099-12-31 10:00:00 UTC (that is to come",
        "version 1",
        "now: it still serves",
        records.night["snapshot"]["digest"],
        records.night["artifact_digest"],
        "PASS in run",
        "nobody was asked",
        "all of this still verifies",
    ):
        assert words in said
    status, then, _ = records("history", "churn", "--at", "2020-01-01")
    assert (status, then["version"], then["next"]["seq"]) == (0, None, 1)
    assert "nobody served" in records.told("history", "churn", "--at", "2020-01-01")[1]
    status, _, errors = records("history", "churn", "--at", "last march")
    assert (status, "expected a day such as" in errors) == (2, True)


def test_a_ledger_that_began_unsigned_is_signed_by_command(records, tmp_path):
    """Taken to another key it is refused; `ledger sign` says so of one that is signed, and wants a key."""
    private, _ = keys(tmp_path, "second")
    stranger = Records(
        replace(records.world, environment={**records.world.environment, "RATCHET_SIGNING_KEY": str(private)}),
        records.public,
        records.night,
    )
    assert "which is not trusted" in stranger.found()["chain"] or "found one by key" in stranger.found()["chain"]
    status, said = records.told("ledger", "sign", "churn", "--reason", "compared")
    assert (status, "is signed already" in said) == (0, True)
    bare = {k: v for k, v in records.world.environment.items() if k != "RATCHET_SIGNING_KEY"}
    plain = Records(replace(records.world, environment=bare), records.public, records.night)
    assert "set RATCHET_TRUSTED_KEYS" in plain.found()["signatures"]
    assert plain.told("ledger", "sign", "churn", "--reason", "compared")[0] == 2
    trusting = {**bare, "RATCHET_TRUSTED_KEYS": str(records.public)}
    assert Records(replace(records.world, environment=trusting), records.public, records.night).found() == {}


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((), "name a PIPELINE"),
        (("churn", "--all"), "name a PIPELINE"),
        (("nobody",), "there are: churn"),
        (("churn", "--key", "x.pem"), "--key goes with --file"),
        (("churn", "--against", "gone.jsonl"), "expected an export of a ledger"),
        (("--file", "x.jsonl", "--deep"), "--file asks no service"),
    ],
)
def test_a_wrong_question_is_refused_in_words(records, words, says):
    """With status 2, and what would be right."""
    status, _, errors = records("ledger", "verify", *words)
    assert status == 2
    assert says in errors


def test_what_is_done_by_hand_is_found(records):
    """A moved alias, a tampered version, an edited verdict, an edited entry and a deleted one: each in its own words."""
    world, run = records.world, records.night["run_key"]
    registry = MlflowRegistry(world.environment["MLFLOW_TRACKING_URI"], world.store.cache)
    registry.client.set_model_version_tag("churn", "1", "ratchet.artifact_digest", "another")
    registry.client.delete_registered_model_alias("churn", "champion")
    gate = f"runs/churn/{run}/gate.json"
    recorded = world.store.get(gate)
    world.store.put(gate, recorded.replace(b"PASS", b"FAIL", 1))
    found = records.found()
    assert list(found) == ["alias", "version 1", "verdict of entry 1"]
    registry.client.set_model_version_tag("churn", "1", "ratchet.artifact_digest", records.night["artifact_digest"])
    world.store.put(gate, recorded)
    assert records.told("reconcile", "churn")[0] == 0
    assert records.found() == {}
    entry = "ledger/churn/00000001.json"
    whole = world.store.get(entry)
    world.store.put(entry, whole.replace(b"bootstrap", b"promote"))
    assert "it was edited" in records.found()["chain"]
    world.store.client.delete_object(Bucket=world.store.bucket, Key=entry)
    assert "it is gone" in records.found()["anchors"]
    for words in (("champion", "churn"), ("history", "churn", "--at", "2099-01-01"), ("ledger", "show", "churn")):
        status, _, errors = records(*words)
        assert (status, "entry 00000001: expected hash" in errors) == (1, True), words
    assert world.night("churn", CUTOFF)[1]["outcome"] == "failed"
    world.store.put(entry, whole)
    assert records.found() == {}
