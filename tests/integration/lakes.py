"""A lake with a pipeline over it that has a champion: break what lands, run the night, and see that the champion stands."""

from __future__ import annotations

import contextlib
import io
import json
import sys
import uuid
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml

from ratchet import wiring
from ratchet.adapters.mlflow import MlflowRegistry
from ratchet.adapters.s3 import S3Store
from ratchet.cli import main
from ratchet.cli.show import night_json
from ratchet.domain.night import NightRequest
from ratchet.errors import RatchetError
from ratchet.home import load_pipeline
from ratchet.settings import settings
from ratchet.steps.night import run_night
from unit.steps.small_world import QuickTrainer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from ratchet.stack import Embedded

DAY = timedelta(days=1)
FIRST = date(2024, 3, 4)
DAYS, ROWS = 20, 60
CHAMPION = FIRST + (DAYS - 1) * DAY  # cutoff of the night that made the champion
TONIGHT = CHAMPION + DAY  # cutoff of the night that is broken; its day has landed well unless a test lands another
CANARY = "agnes.canary@example.org"  # a person; must be shown nowhere

SPEC: dict[str, Any] = {
    "description": "Which rows are hot?",
    "owner": {"name": "tests"},
    "schedule": None,
    "source": {"unknown_at_prediction": ["y"]},
    "window": {
        "days": DAYS,
        "holdout_days": 4,
        "stop_days": 3,
        "min_partitions": 10,
        "min_rows": 100,
        "max_age_days": 1,
    },
    "validation": {"suite": "rows", "on_critical": "reject"},
    "features": "rows",
    "target": {"task": "binary", "sql": "y"},
    "training": {
        "rounds": 8,
        "early_stopping_rounds": 4,
        "threads": 1,
        "params": {"max_depth": 2, "eta": 0.5, "min_child_weight": 1},
    },
    "league": {"size": 1},
    "gates": [
        {"kind": "bound", "metric": "auc", "at_least": 0.7, "min_rows": 50},
        {"kind": "champion", "loss": "log_loss", "margin": 0.2, "confidence": 0.6, "min_days": 2},
    ],
}
SUITE: list[dict[str, Any]] = [
    {"type": "expect_column_values_to_not_be_null", "kwargs": {"column": "id"}},
    {"type": "expect_column_values_to_be_between", "kwargs": {"column": "x", "min_value": -9, "max_value": 9}},
    {"type": "expect_column_values_to_be_in_set", "kwargs": {"column": "place", "value_set": ["north", "south"]}},
]
SQL = "SELECT row_id, x, z, place FROM rows"
# What the sniffing of a text file would otherwise tell by the values of one day alone.
DECLARED = {
    "id": "BIGINT",
    "at": "TIMESTAMP",
    "x": "DOUBLE",
    "z": "DOUBLE",
    "place": "VARCHAR",
    "email": "VARCHAR",
    "y": "BOOLEAN",
}


def columns(day: date, rows: int = ROWS) -> dict[str, Any]:
    """Return a day's good rows."""
    random = np.random.default_rng(day.toordinal())
    x, z = random.normal(size=rows), random.normal(size=rows)
    return {
        "id": np.arange(rows) + day.toordinal() * 1000,
        "at": [datetime.combine(day, time(i % 24, i % 60)) for i in range(rows)],
        "x": x.round(4),
        "z": z.round(4),
        "place": random.choice(["north", "south"], rows),
        "email": [f"person{i}@example.org" for i in range(rows)],
        # A step, which no regression draws; one row in ten is otherwise.
        "y": (x > 0) ^ (np.abs(random.normal(size=rows)) > 1.645),
    }


def table(day: date, rows: int = ROWS, **given: Any) -> pa.Table:
    """Return a day's rows; ``given`` columns take the place of the good ones, ``None`` leaves one out."""
    found = {**columns(day, rows), **given}
    return pa.table({name: values for name, values in found.items() if values is not None})


def parquet(rows: pa.Table, **options: Any) -> bytes:
    """Write rows as Parquet."""
    out = io.BytesIO()
    pq.write_table(rows, out, **options)
    return out.getvalue()


def csv(rows: pa.Table) -> bytes:
    """Write rows as CSV."""
    out = io.BytesIO()
    pyarrow.csv.write_csv(rows, out, pyarrow.csv.WriteOptions(quoting_style="needed"))
    return out.getvalue()


def jsonl(rows: pa.Table) -> bytes:
    """Write rows as JSON Lines."""
    return "".join(json.dumps(row, default=str) + "\n" for row in rows.to_pylist()).encode()


WRITE = {"parquet": parquet, "csv": csv, "jsonl": jsonl}


@dataclass(frozen=True)
class Ran:
    """What a command came to."""

    status: int
    night: dict[str, Any]
    said: str  # on standard output
    err: str  # on standard error

    @property
    def outcome(self) -> str:
        """How the night came out."""
        return str(self.night["outcome"])

    @property
    def why(self) -> str:
        """The reasons, in words."""
        return "\n".join(self.night["reasons"])


@dataclass
class Lake:
    """A source bucket and a platform bucket on real servers, and the home of one pipeline.

    Commands run in this process, because one of their own would spend its time on importing what this one has imported.
    """

    format: str
    name: str
    environment: dict[str, str]
    home: Path
    store: S3Store  # the platform's records
    source: S3Store
    spec: dict[str, Any]
    good: dict[str, bytes] = field(default_factory=dict)
    kept: frozenset[str] = frozenset()

    @classmethod
    def fresh(
        cls, stack: Embedded, folder: Path, form: str = "parquet", *, versioned: bool = True, **spec: Any
    ) -> Lake:
        """Make a lake in which all days up to tonight's have landed; ``spec`` takes the place of sections of the spec."""
        found, word = stack.environment, uuid.uuid4().hex[:12]
        environment = {**found, "RATCHET_BUCKET": f"own-{word}", "RATCHET_CACHE": str(folder / "cache")}
        source = S3Store(found["RATCHET_S3_ENDPOINT"], f"lake-{word}", folder / "source")
        if versioned:
            source.ensure_bucket(source.bucket)
        else:
            source.client.create_bucket(Bucket=source.bucket)
        name = f"faults_{word}"
        given: dict[str, Any] = {**SPEC, "name": name, **spec}
        given["source"] = {
            **given["source"],
            "uri": f"s3://{source.bucket}/rows/",
            "format": form,
            **({"columns": DECLARED} if form != "parquet" else {}),
        }
        made = cls(
            format=form,
            name=name,
            environment=environment,
            home=folder / "home",
            store=S3Store(found["RATCHET_S3_ENDPOINT"], f"own-{word}", folder / "records"),
            source=source,
            spec=given,
        )
        for sub in ("pipelines", "suites", "features"):
            (made.home / sub).mkdir(parents=True)
        made.declare(given)
        made.suite("rows", *SUITE)
        (made.home / "features" / "rows.sql").write_text(SQL)
        for i in range(DAYS + 1):
            made.land(FIRST + i * DAY)
        return made

    def declare(self, spec: Mapping[str, Any]) -> None:
        """Write the pipeline's file."""
        (self.home / "pipelines" / f"{self.name}.yaml").write_text(yaml.safe_dump(dict(spec)))

    def suite(self, name: str, *expectations: Mapping[str, Any]) -> str:
        """Write a suite, and return the words that let a night use it."""
        document = {"name": name, "expectations": list(expectations)}
        (self.home / "suites" / f"{name}.json").write_text(json.dumps(document))
        return f"validation.suite={name}"

    def key(self, day: date = TONIGHT, part: str = "part") -> str:
        """Return the key of a day's object."""
        return f"rows/dt={day}/{part}.{self.format}"

    def land(self, day: date = TONIGHT, data: bytes | None = None, *, part: str = "part", **given: Any) -> str:
        """Land, or replace, a day's object; return its key."""
        key = self.key(day, part)
        self.put(key, WRITE[self.format](table(day, **given)) if data is None else data)
        return key

    def put(self, key: str, data: bytes) -> None:
        """Land an object under any key."""
        self.source.client.put_object(Bucket=self.source.bucket, Key=key, Body=data)

    def remove(self, key: str) -> None:
        """Remove an object, as a writer does; a bucket that keeps versions keeps what it was."""
        self.source.client.delete_object(Bucket=self.source.bucket, Key=key)

    def contents(self, store: S3Store | None = None) -> dict[str, bytes]:
        """Return all objects."""
        place = store or self.source
        return {found.uri.split("/", 3)[3]: place.get(found.uri) for found in place.list("")}

    def night(self, cutoff: date = TONIGHT, *words: str, changes: tuple[str, ...] = ()) -> Ran:
        """Run a night by the command line; ``changes`` are spec values by dotted key."""
        given = [word for change in changes for word in ("--set", change)]
        return self.ratchet("run", self.name, "--cutoff", str(cutoff), *given, *words)

    def dry(self, *changes: str, cutoff: date = TONIGHT, dry_run: bool = True) -> Ran:
        """Run a night without the command line, by default a dry one; the registered model is tried in this process, which saves seconds."""
        overrides = {key: yaml.safe_load(value) for key, _, value in (change.partition("=") for change in changes)}
        with self._here():
            found = settings()
        request = NightRequest(
            pipeline=self.name, cutoff=cutoff, dry_run=dry_run, overrides=overrides, actor="tests", reason="dry"
        )
        pipeline = load_pipeline(self.name, self.home, overrides)
        night, error = run_night(request, pipeline, replace(wiring.services(found), trainer=QuickTrainer()))
        unforeseen = "" if error is None or isinstance(error, RatchetError) else "Traceback: "
        status = {"rejected": 3, "failed": getattr(error, "exit_code", 1)}.get(night.outcome, 0)
        return Ran(status, night_json(night), night.model_dump_json(), f"{unforeseen}{error}" if error else "")

    @contextlib.contextmanager
    def _here(self) -> Iterator[pytest.MonkeyPatch]:
        """Be in the environment of this lake."""
        with pytest.MonkeyPatch.context() as patch:
            for name, value in self.environment.items():
                patch.setenv(name, value)
            yield patch

    def ratchet(self, *words: str, plain: bool = False) -> Ran:
        """Run a command in this home."""
        out, err = io.StringIO(), io.StringIO()
        with self._here() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            shape = [] if plain else ["--json"]
            patch.setattr(sys, "argv", ["ratchet", *words, "--home", str(self.home), *shape])
            status = 0
            try:
                main()
            except SystemExit as exc:
                status = int(exc.code or 0)
        said = out.getvalue()
        return Ran(status, json.loads(said) if said.startswith("{") else {}, said, err.getvalue())

    def record(self, ran: Ran) -> dict[str, Any]:
        """Return what is stored of a night."""
        place = str(ran.night["report"]).replace("reports/", "nights/").replace(".html", ".json")
        found: dict[str, Any] = json.loads(self.store.get(place))
        return found

    def elsewhere(self, cache: Path) -> Lake:
        """Return the lake as another machine sees it, which has pulled nothing yet."""
        return replace(self, environment={**self.environment, "RATCHET_CACHE": str(cache)})

    def behind(self, address: str, cache: Path) -> Lake:
        """Return the lake as another machine sees it through a proxy."""
        there = self.elsewhere(cache)
        return replace(there, environment={**there.environment, "RATCHET_S3_ENDPOINT": address})

    @property
    def registry(self) -> MlflowRegistry:
        """The model registry, by a cache of its own."""
        return MlflowRegistry(self.environment["MLFLOW_TRACKING_URI"], self.home.parent / "registry")

    def serving(self) -> tuple[Any, ...]:
        """Return who serves, and the addresses of the ledger's entries."""
        entries = [found.uri for found in self.store.list(f"ledger/{self.name}/")]
        return self.registry.alias(self.name, "champion"), *entries

    def standing(self) -> dict[str, Any]:
        """Return what a refused night must leave as it was: the ledger, the alias, and the artifact that serves."""
        registry = self.registry
        ledger = {found.uri: self.store.get(found.uri) for found in self.store.list(f"ledger/{self.name}/")}
        serving = registry.alias(self.name, "champion")
        (champion,) = [version for version in registry.versions(self.name) if version.version == serving]
        _, files = registry.download(champion.mlflow_run_id, champion.artifact_digest, fresh=True)
        return {
            "ledger": ledger,
            "alias": serving,
            "artifact": files.digest,
            "recorded": champion.artifact_digest,
            "anchors": dict(registry.anchors(self.name)),
        }

    def unlisted(self) -> list[str]:
        """Return what a night must not leave: versions and unfinished runs that no record names, and half files."""
        registry = self.registry
        recorded = {
            found.uri.split("/")[-2] for found in self.store.list("runs/") if found.uri.endswith("/register.json")
        }
        left = [f"version {v.version}" for v in registry.versions(self.name) if v.run_key not in recorded]
        client = registry.client
        experiment = client.get_experiment_by_name(self.name)
        left += [
            f"run {run.info.run_id}"
            for run in client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        ]
        cache = Path(self.environment["RATCHET_CACHE"])
        left += [
            str(path.relative_to(cache))
            for path in cache.rglob("*")
            if path.is_file() and (path.name.startswith(".") or path.suffix in {".part", ".plain", ".tmp"})
        ]
        return left

    def restore(self) -> None:
        """Put the lake and the records back to what they were when the champion was made."""
        now = {found.uri.split("/", 3)[3]: found for found in self.source.list("")}
        for key in now.keys() - self.good.keys():
            self._forget(key)
        for key, data in self.good.items():
            if key not in now or self.source.get(key) != data:
                self.put(key, data)
        for found in list(self.store.list("")):
            key = found.uri.split("/", 3)[3]
            if key not in self.kept and not key.startswith(("validations/", "quarantine/", "data_docs/")):
                self.store.delete(key)

    def _forget(self, key: str) -> None:
        """Remove all versions of an object: the server lists some keys so that no client can read the list."""
        found = self.source.client.list_object_versions(Bucket=self.source.bucket, Prefix=key)
        for version in (*found.get("Versions", ()), *found.get("DeleteMarkers", ())):
            if version["Key"] == key:
                self.source.client.delete_object(Bucket=self.source.bucket, Key=key, VersionId=version["VersionId"])


class Lakes:
    """Lakes with a champion, each made when it is first asked for, and made anew after a test in which the champion fell.

    Args:
        stack: the servers.
        folder: makes a folder of a lake's own.
        spec: sections of the spec, for all of them.
    """

    def __init__(self, stack: Embedded, folder: Callable[[str], Path], **spec: Any) -> None:
        self._stack, self._folder, self._spec = stack, folder, spec
        self._made: dict[str, tuple[Lake, tuple[Any, ...]]] = {}

    def __getitem__(self, form: str) -> Lake:
        """Return the lake whose files are written in some way."""
        if form not in self._made:
            lake = crowned(Lake.fresh(self._stack, self._folder(form), form, **self._spec))
            self._made[form] = lake, lake.serving()
        return self._made[form][0]

    def restore(self) -> None:
        """Put right what a test has broken."""
        for form, (lake, standing) in list(self._made.items()):
            if lake.serving() == standing:
                lake.restore()
            else:
                del self._made[form]


def crowned(lake: Lake) -> Lake:
    """Make a champion by the night before tonight's, and remember the lake as it is now."""
    ran = lake.dry(cutoff=CHAMPION, dry_run=False)
    assert ran.outcome == "promoted", (ran.why, ran.err)
    lake.good = lake.contents()
    lake.kept = frozenset(found.uri.split("/", 3)[3] for found in lake.store.list(""))
    return lake


@contextlib.contextmanager
def unharmed(lake: Lake) -> Iterator[None]:
    """See that whatever happens here leaves the champion: ledger, alias and artifact; and nothing that no record names."""
    before, left = lake.standing(), set(lake.unlisted())
    yield
    after = lake.standing()
    assert after == before, {name: (before[name], after[name]) for name in before if before[name] != after[name]}
    more = sorted(set(lake.unlisted()) - left)
    assert not more, more


def rejected(lake: Lake, reason: str, *names: str, changes: tuple[str, ...] = (), words: tuple[str, ...] = ()) -> Ran:
    """Run tonight, and see that it is rejected for a reason, visibly, in words that name what is wrong; and that nothing turned.

    Args:
        lake: a lake with a champion.
        reason: the stable word.
        names: what the message must say: the key, the row, the remedy.
        changes: spec values by dotted key.
        words: more of the command line.
    """
    with unharmed(lake):
        ran = lake.night(TONIGHT, *words, changes=changes)
    assert ran.night, ran.err
    assert (ran.outcome, ran.status) == ("rejected", 3), (ran.outcome, ran.why, ran.err)
    assert ran.why.startswith(f"{reason}: "), ran.why
    for name in names:
        assert name in ran.why, (name, ran.why)
    assert "Traceback" not in ran.err, ran.err
    assert CANARY not in ran.said + ran.err
    assert lake.record(ran)["ended"]["reason"] == reason
    assert reason in lake.store.get(ran.night["report"]).decode()
    return ran


QUARANTINE = "validation.on_critical=quarantine"


def set_aside(lake: Lake, *names: str, changes: tuple[str, ...] = (QUARANTINE,), day: date = TONIGHT) -> dict[str, Any]:
    """Run tonight, see that one partition alone is left out and the rest is judged, and return the night's record."""
    with unharmed(lake):
        ran = lake.dry(*changes)
    assert ran.outcome in {"promoted", "refused", "undecided"}, (ran.why, ran.err)
    record = lake.record(ran)
    (partition,) = record["validate_"]["quarantined"]
    assert partition["partition"] == str(day)
    said = "\n".join(partition["reasons"])
    for name in names:
        assert name in said, (name, said)
    account = record["train"]["account"]
    assert account["quarantined_partitions"] == partition["rows"]
    assert account["landed"] == sum(count for part, count in account.items() if part != "landed")
    return record
