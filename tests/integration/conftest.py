"""A lake and a command line on the session's real servers."""

from __future__ import annotations

import json
import sys
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from integration.lakes import Lake, Lakes
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.adapters.s3 import S3Store
from ratchet.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ratchet.stack import Embedded

HOMES = Path(__file__).parents[1] / "samples"


@dataclass(frozen=True)
class World:
    """A bucket and a cache of a test's own.

    Commands run in this process, because one of their own would spend its time on importing what this one has imported.
    """

    environment: dict[str, str]
    store: S3Store
    capsys: pytest.CaptureFixture[str]

    def ratchet(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """Run the command line with ``--json``; return its status, its object and what it wrote on standard error."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            patch.setattr(sys, "argv", ["ratchet", *words, "--json"])
            self.capsys.readouterr()
            try:
                main()
            except SystemExit as exc:
                status = int(exc.code or 0)
            else:
                status = 0
        out, err = self.capsys.readouterr()
        return status, json.loads(out) if out else {}, err

    def night(self, name: str, cutoff: object, *words: str) -> tuple[int, dict[str, Any], str]:
        """Run one night of a sample."""
        return self.ratchet("run", name, "--cutoff", str(cutoff), "--home", str(self.home(name)), *words)

    def home(self, name: str) -> Path:
        """Return a copy of a sample's home that reads from this world's lake."""
        home = self.store.cache.parent / "homes" / name
        if not home.exists():
            for file in (f for f in (HOMES / name).rglob("*") if f.is_file()):
                copy = home / file.relative_to(HOMES / name)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(file.read_text().replace("s3://lake/", f"s3://{self.store.bucket}/"))
        return home


@pytest.fixture
def world(stack: Embedded, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> World:
    """A fresh bucket, a fresh cache, and a registry that remembers no ledger of another bucket."""
    client = MlflowRegistry(stack.environment["MLFLOW_TRACKING_URI"], tmp_path).client
    for model in client.search_registered_models():
        client.delete_registered_model(model.name)
    bucket, cache = f"test-{uuid.uuid4().hex[:20]}", tmp_path / "cache"
    environment = {**stack.environment, "RATCHET_BUCKET": bucket, "RATCHET_CACHE": str(cache)}
    return World(environment, S3Store(stack.environment["RATCHET_S3_ENDPOINT"], bucket, cache), capsys)


@pytest.fixture(scope="module")
def lakes(stack: Embedded, tmp_path_factory: pytest.TempPathFactory) -> Lakes:
    """One lake for each way of writing files."""
    return Lakes(stack, tmp_path_factory.mktemp)


@pytest.fixture
def broken(lakes: Lakes) -> Iterator[Lakes]:
    """The lakes, put back to rights after the test."""
    yield lakes
    lakes.restore()


@pytest.fixture
def lake(broken: Lakes) -> Lake:
    """The lake of Parquet files."""
    return broken["parquet"]
