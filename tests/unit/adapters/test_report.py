"""The night's page, for every way that a night can end."""

from __future__ import annotations

import json
import re
from datetime import date, timedelta
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pytest

from ratchet.adapters.report import HtmlReporter
from ratchet.adapters.report import words as page_words
from ratchet.adapters.report.svg import axis
from ratchet.adapters.report.view import number
from ratchet.domain import night as records
from ratchet.domain.accounting import RowAccount
from ratchet.domain.case import BaselineDay, CaseForPromotion, DayLoss, Difference, MetricValue, MustBeat
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.drifted import DriftResult, SubjectDrift
from ratchet.domain.evidence import Trial
from ratchet.domain.findings import Finding
from ratchet.domain.ledger import GENESIS, Champion, LedgerEntry
from ratchet.domain.models import ModelVersion
from ratchet.domain.records import digest
from ratchet.domain.snapshots import SnapshotDiff
from ratchet.domain.statistics import Evidence
from ratchet.domain.verdict import judge
from ratchet.spec import Pipeline, PipelineSpec
from ratchet.steps.report import headline

CUTOFF = date(2013, 6, 30)
HOSTILE = "<script>alert('Zoë & co')</script>"
METRICS = {
    "binary": {
        "auc": 0.7443,
        "pr_auc": 0.5121,
        "log_loss": 0.4803,
        "brier": 0.1562,
        "accuracy": 0.7712,
        "balanced_accuracy": 0.6011,
        "macro_f1": 0.6105,
        "calibration": 0.9712,
    },
    "multiclass": {
        "log_loss": 0.8102,
        "brier": 0.4417,
        "accuracy": 0.6903,
        "balanced_accuracy": 0.6411,
        "macro_f1": 0.6502,
    },
    "regression": {"rmse": 31.72, "mae": 18.04, "r2": 0.4412},
    "quantile": {
        "pinball": 4.812,
        "coverage": 0.7911,
        "width": 38.4,
        "mae": 18.11,
        "quantile_error": 0.021,
        "below_0.9": 0.8911,
    },
    "ranking": {"ndcg": 0.7213, "mrr": 0.6122, "precision": 0.3301},
}
GATES = {
    "binary": [
        {"kind": "bound", "metric": "auc", "at_least": 0.62},
        {"kind": "bound", "metric": "log_loss", "at_most": 0.6},
        {"kind": "bound", "metric": "auc", "at_least": 0.6, "slice": "origin=JFK"},
        {"kind": "champion", "loss": "log_loss", "margin": 0.002, "confidence": 0.95, "min_days": 5},
    ],
    "multiclass": [
        {"kind": "bound", "metric": "accuracy", "at_least": 0.5},
        {"kind": "champion", "loss": "log_loss", "margin": 0.002},
    ],
    "regression": [
        {"kind": "bound", "metric": "rmse", "at_most": 40},
        {"kind": "champion", "loss": "absolute_error", "margin": 0.002},
    ],
    "quantile": [
        {"kind": "bound", "metric": "pinball", "at_most": 9},
        {"kind": "champion", "loss": "pinball", "margin": 0.002},
    ],
    "ranking": [
        {"kind": "bound", "metric": "ndcg", "at_least": 0.5},
        {"kind": "champion", "loss": "ndcg_loss", "margin": 0.002},
    ],
}
TARGETS = {"quantile": {"quantiles": [0.1, 0.5, 0.9]}, "ranking": {"group": "race"}}
LOSSES = {"regression": "absolute_error", "quantile": "pinball", "ranking": "ndcg_loss"}
WORSE_WHEN_HIGHER = {"log_loss", "brier", "rmse", "mae", "pinball", "quantile_error", "width"}
EVIDENCE = {"kind": "evidence", "loss": "log_loss"}


def pipeline(task="binary", gates=None, **changes):
    spec = {
        "name": "flight_delay",
        "description": "Will a flight from New York arrive 15 minutes late or more? Asked an hour before its scheduled departure.",
        "owner": {"name": "operations-research", "email": "operations-research@example.com"},
        "source": {"uri": "s3://lake/flights/", "format": "parquet"},
        "window": {"days": 90, "holdout_days": 7, "stop_days": 7, "label_delay_days": 1},
        "validation": {"suite": "flights"},
        "features": "flight_delay",
        "target": {"task": task, "sql": "arr_delay >= 15", **TARGETS.get(task, {})},
        "evaluation": {"slices": ["origin", "carrier"]},
        "gates": gates or GATES[task],
    }
    suite = {"expectations": [{"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}]}
    return Pipeline(spec=PipelineSpec.model_validate({**spec, **changes}), suite=suite, sql="select * from rows")


def model(version):
    made = CUTOFF - timedelta(days=12 - version)
    return ModelVersion(
        version=version, run_key=digest(["run", version]), mlflow_run_id=digest(version)[:32],
        artifact_digest=digest(["artifact", version]), seen_through=made - timedelta(days=8), cutoff=made,
    )  # fmt: skip


def ledger(*versions):
    entries, previous = [], GENESIS
    for seq, version in enumerate(versions, start=1):
        champion = Champion(**model(version).model_dump(include=set(Champion.model_fields)))
        entry = LedgerEntry(
            seq=seq, previous=previous, pipeline="flight_delay", action="promote" if seq > 1 else "bootstrap",
            champion=champion, judged_through=champion.cutoff, verdict=digest("verdict"), reasons=("auc ≥ 0.62: 0.7443 over 6,212 rows",),
            actor="schedule", reason="", at=f"{champion.cutoff}T03:04:05+00:00",
        ).sealed()  # fmt: skip
        entries.append(entry)
        previous = entry.hash
    return tuple(entries)


def predictions(task="binary", *, champion=True, rows=6200, classes=("early", "on time", "late", "cancelled")):
    rng = np.random.default_rng(7)
    days = [CUTOFF - timedelta(days=1 + i % 7) for i in range(rows)]
    noise = rng.normal(size=(3, rows))
    metadata = {}
    if task == "multiclass":
        logits = rng.normal(size=(rows, len(classes))) + np.array([0.2, 1.2, 0.4, -1.0])[: len(classes)]
        odds = np.exp(1.3 * logits)
        sides = [odds / odds.sum(axis=1, keepdims=True), np.exp(logits + 0.7 * rng.normal(size=logits.shape))]
        sides[1] /= sides[1].sum(axis=1, keepdims=True)
        y = np.array([rng.choice(len(classes), p=p) for p in sides[0]], dtype=float)
        columns = [pa.array(side.tolist()) for side in sides]
        metadata = {"ratchet.classes": json.dumps(classes)}
    elif task == "regression":
        signal = 25 * np.abs(noise[0])
        y, columns = signal + 14 * noise[1], [pa.array(signal), pa.array(signal * 0.9 + 4 * noise[2] + 3)]
    elif task == "quantile":
        signal = 25 * np.abs(noise[0])
        y = signal + 14 * noise[1]
        columns = [
            pa.array((signal[:, None] + np.array([-w, 0, w])).tolist(), pa.list_(pa.float64())) for w in (18, 14)
        ]
    elif task == "ranking":
        y = np.clip(np.round(1.2 * noise[0]), 0, 3)
        columns = [pa.array(y + noise[1]), pa.array(y + 1.4 * noise[2])]
    else:
        logit = -1.3 + 1.1 * noise[0]
        y = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(float)
        columns = [
            pa.array(1 / (1 + np.exp(-logit - 0.2 * noise[1]))),
            pa.array(1 / (1 + np.exp(-0.8 * logit - 0.6 * noise[2]))),
        ]
    table = {"row_id": pa.array(range(rows)), "dt": pa.array(days), "label": pa.array(y), "challenger": columns[0]}
    if champion:
        table["champion"] = columns[1]
    if task == "ranking":
        table["list"] = pa.array([7 * (i // 70) + i % 7 for i in range(rows)])
    return pa.table(table).replace_schema_metadata(metadata)


def case(task="binary", *, champion=True, better=0.006, slices=("EWR", "JFK", "LGA"), league_days=0):
    rng = np.random.default_rng(3)
    metrics = {name: MetricValue(value=v, rows=6200) for name, v in METRICS[task].items()}
    for column, values in {"origin": slices, "carrier": ("UA", "B6", "EV", "DL", "AA", "MQ", "US")}.items():
        for i, value in enumerate(values):
            metrics.update(
                {
                    f"{name}[{column}={value}]": MetricValue(value=v - 0.011 * i, rows=2400 - 300 * i)
                    for name, v in METRICS[task].items()
                }
            )
    days = [CUTOFF - timedelta(days=i + 1) for i in range(7)][::-1]
    loss = LOSSES.get(task, "log_loss")
    paired = tuple(
        DayLoss(day=str(d), rows=880 + i, champion=0.487 + better + 0.004 * rng.normal(), challenger=0.487)
        for i, d in enumerate(days)
    )
    league = tuple(
        Evidence(day=str(CUTOFF - timedelta(days=league_days - i)), rows=880, champion=11, challenger=12, difference=0.0012 + 0.004 * rng.normal(), scale=0.005)
        for i in range(league_days)
    )  # fmt: skip
    smoke = Check(
        name="smoke test",
        outcome=Outcome.PASS,
        reason="the registered artifact, loaded in a fresh process, gives the evaluated predictions",
    )
    return CaseForPromotion(
        metrics=metrics,
        champion=champion,
        paired={loss: paired} if champion else {},
        intervals={name: (m.value - 0.02, m.value + 0.03) for name, m in metrics.items()},
        trial=Trial(lane="recipe", evidence={loss: league}) if league_days else None,
        smoke=smoke,
    )


def begun(**changes):
    request = {"pipeline": "flight_delay", "cutoff": CUTOFF, **changes}
    return records.Night(
        request=records.NightRequest(**request), spec_digest=digest("spec"), code_digest=digest("code")
    )


def judged(task="binary", flow=None, *, champion=True, made=None, version=12, **request):
    """Return a night up to its verdict."""
    flow, made = flow or pipeline(task), made or case(task, champion=champion)
    night = begun(**request)
    quarantined = records.QuarantinedPartition(
        partition="2013-05-03", objects=(digest("bad"),), rows=842,
        reasons=("expect_column_values_to_be_between(distance): expected 10 … 6000, found −3, 41 rows (4.87 %)",),
    )  # fmt: skip
    rows_left_out = records.QuarantinedRows(
        partition="2013-06-14", content=digest("content"), objects=(digest("object"),), rows=17, kept="quarantine/flight_delay/x.parquet",
        reasons=("expect_column_values_to_not_be_null(dest): expected it to hold, found missing values, 17 rows (1.90 %)",),
    )  # fmt: skip
    finding = Finding(kind="volume", action="warn", subject="2013-06-29", words="412 rows, 883 are usual on a Saturday")
    added = (
        f"flights/dt={CUTOFF - timedelta(days=1)}/flights.parquet",
        f"weather/dt={CUTOFF - timedelta(days=1)}/weather.parquet",
    )
    train = records.TrainResult(
        mlflow_run_id=digest(version)[:32], mlflow_url="http://127.0.0.1:5000/#/experiments/1/runs/abc", artifact_digest=digest(["artifact", version]),
        rows=67210, rounds=118, account=RowAccount(landed=83_002, outside=0, quarantined_partitions=842, quarantined_rows=17, unlabelled=2210, dropped=14, fitted=67210, watched=6509, held_out=6200), seen_through=CUTOFF - timedelta(days=8), unlabelled=2210, dropped=14,
        importance=dict(zip(("hour", "precip_in", "visibility_mi", "carrier", "dest", "wind_gust", "month_day", "distance", "origin", "dew_point"), np.array([.31, .17, .12, .1, .09, .08, .05, .04, .03, .01]).tolist(), strict=True)),
    )  # fmt: skip
    worse = {name: v - 0.0071 if name not in WORSE_WHEN_HIGHER else v + 0.0068 for name, v in METRICS[task].items()}
    differences = {
        name: Difference(
            champion=m.value - 0.01, challenger=m.value, difference=0.01, low=-0.002 if i % 2 else 0.001, high=0.02, rows=m.rows, days=7
        )
        for i, (name, m) in enumerate(made.metrics.items())
        if m.value is not None and np.isfinite(m.value)
    }  # fmt: skip
    scored = tuple(
        records.ScoredVersion(version=v, champion=v == 11, days=("2013-06-29",), metrics={k: x - 0.004 * (11 - v) for k, x in METRICS[task].items()})
        for v in (11, 10, 9)
    )  # fmt: skip
    results = {
        "snapshot": records.SnapshotResult(
            digest=digest("snapshot"), partitions=90, objects=181, bytes=48_211_004, rows=83_002, reused=False,
            difference=SnapshotDiff(previous=digest("before"), added=added, corrected=("flights/dt=2013-06-20/flights.parquet",), released=("2013-06-11",), late={"flights/dt=2013-06-25/flights.parquet": 4}),
        ),
        "validate": records.ValidateResult(
            checked=1, cached=89, quarantined=(quarantined,), warnings=("2013-06-29: expect_column_mean_to_be_between(air_time): expected 120 … 180, found 183.2",),
            docs="data_docs/flight_delay/abc/def.html", rows=82_143, quarantined_rows=(rows_left_out,), findings=(finding,),
        ),
        "score": records.ScoreResult(champion=model(11) if champion else None, reign=2 if champion else 0, versions=scored if champion else (), rows=880),
        "train": train,
        "evaluate": records.EvaluateResult(
            case=made, rows=6200, challenger=METRICS[task], champion=worse if champion else None, common_rows=6200 if champion else 0, predictions="runs/flight_delay/abc/predictions.parquet",
            differences=differences if champion else {},
        ),
        "register": records.RegisterResult(version=None if night.request.dry_run else model(version), url="http://127.0.0.1:5000/#/models/flight_delay/versions/12", smoke=None),
        "gate": records.GateResult(verdict=judge(made, flow.spec.gates)),
    }  # fmt: skip
    for step, result in results.items():
        night = night.with_result(step, result)
    seconds = {
        "snapshot": 0.41,
        "validate": 1.32,
        "score": 0.52,
        "train": 4.9,
        "evaluate": 0.8,
        "register": 2.1,
        "gate": 0.05,
    }
    return night.model_copy(update={"run_key": digest(["run", version]), "seconds": seconds})


def promoted(task="binary", *, champion=True, **request):
    night = judged(task, champion=champion, **request)
    result = records.PromoteResult(
        promoted=not night.request.dry_run,
        entry=None if night.request.dry_run else 3 if champion else 1,
        detail="it follows entry 2" if champion else "the first champion",
    )
    approve = records.ApproveResult(required=False, approved=True)
    return night.with_result("approve", approve).with_result("promote", result)


def ended(outcome, step, reason, detail, **results):
    return begun().model_copy(
        update={
            "ended": records.Ended(outcome=outcome, step=step, reason=reason, detail=detail),
            "seconds": {"snapshot": 0.2},
            **results,
        }
    )


def nights_before(count=20):
    found = []
    for i in range(1, count + 1):
        night = (
            ended("rejected", "validate", "validation", "too bad")
            if i % 9 == 4
            else judged(made=case(better=(-0.004, 0.001, 0.006)[i % 3]))
        )
        shifted = night.request.model_copy(update={"cutoff": CUTOFF - timedelta(days=i)})
        if night.evaluate:
            drift = {k: v + 0.01 * np.sin(i) for k, v in METRICS["binary"].items()}
            night = night.with_result("evaluate", night.evaluate.model_copy(update={"challenger": drift}))
        if night.outcome == "refused" and i % 3 == 2:
            night = night.with_result(
                "promote", records.PromoteResult(promoted=True, entry=2, detail="it follows entry 1")
            )
        found.append(night.model_copy(update={"request": shifted}))
    return found


WITH_EVIDENCE = pipeline(gates=[*GATES["binary"][:2], EVIDENCE])
TWO = ledger(9, 11)
FULL = judged()
NIGHTS = {
    "promoted": ("PROMOTED", promoted(), pipeline(), predictions(), ledger(9, 11, 12)),
    "promoted dry": ("PROMOTED", promoted(dry_run=True, actor="ada", reason="what if"), pipeline(), predictions(), TWO),
    "bootstrap": ("PROMOTED", promoted(champion=False), pipeline(), predictions(champion=False), ledger(12)),
    "multiclass": ("PROMOTED", promoted("multiclass"), pipeline("multiclass"), predictions("multiclass"), ledger(9, 11, 12)),
    "regression": ("PROMOTED", promoted("regression"), pipeline("regression"), predictions("regression"), ledger(9, 11, 12)),
    "quantile": ("PROMOTED", promoted("quantile"), pipeline("quantile"), predictions("quantile"), ledger(9, 11, 12)),
    "ranking": ("PROMOTED", promoted("ranking"), pipeline("ranking"), predictions("ranking"), ledger(9, 11, 12)),
    "refused": ("REFUSED", judged(made=case(better=-0.012)), pipeline(), predictions(), TWO),
    "unapproved": (
        "REFUSED",
        judged().with_result("approve", records.ApproveResult(required=True, approved=False, who="grace", reason="not before the holiday")),
        pipeline(),
        predictions(),
        TWO,
    ),
    "undecided": ("UNDECIDED", judged(flow=WITH_EVIDENCE, made=case(league_days=24)), WITH_EVIDENCE, predictions(), TWO),
    "skipped": ("SKIPPED", ended("skipped", "snapshot", "too_few_partitions", "12 days of data, window.min_partitions is 45"), pipeline(), None, ()),
    "rejected": (
        "REJECTED",
        ended("rejected", "validate", "quarantined", "11 of 90 partitions are in quarantine, max_quarantined allows 0.1", snapshot=FULL.snapshot, run_key=FULL.run_key),
        pipeline(),
        None,
        TWO,
    ),
    "failed": ("FAILED", ended("failed", "train", "ServiceError", "MLflow: create run failed: connection refused", snapshot=FULL.snapshot, validate_=FULL.validate_, score=FULL.score), pipeline(), None, TWO),
    "nothing known": ("FAILED", records.Night(request=records.NightRequest(pipeline="flight_delay", cutoff=CUTOFF)), pipeline(), None, ()),
}  # fmt: skip


def render(night, flow=None, rows=None, earlier=(), entries=()):
    return HtmlReporter().page(night, flow or pipeline(), rows, earlier, entries).decode()


class _Elements(HTMLParser):
    """Collects elements and checks that they are closed in order."""

    VOID = ("meta", "br", "wbr", "path", "rect", "circle")

    def __init__(self, html):
        super().__init__()
        self.open, self.found = [], []
        self.feed(html)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID or (tag in {"rect", "circle"} and not self.get_starttag_text().endswith("/>")):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", NIGHTS)
def test_every_outcome_has_a_page(name):
    """However the night ended, the page says so in a word, names the night and says what to do next."""
    word, night, flow, rows, entries = NIGHTS[name]
    html = render(night, flow, rows, nights_before(), entries)
    assert f"<strong>{word}</strong>" in html
    assert "What to do next" in html
    assert str(CUTOFF) in html
    for reason in night.reasons:
        assert reason.split(":")[0].replace("'", "&#39;") in html
    assert _Elements(html).found


@pytest.mark.parametrize("name", NIGHTS)
def test_page_stands_alone(name):
    """No page loads, runs or embeds anything; addresses appear in links only."""
    _, night, flow, rows, entries = NIGHTS[name]
    elements = _Elements(render(night, flow, rows, (), entries)).found
    assert not {tag for tag, _ in elements} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "use",
        "image",
    }
    for tag, attributes in elements:
        assert not {"src", "srcset", "background", "xlink:href"} & attributes.keys()
        assert not any(key.startswith("on") for key in attributes)
        assert "href" not in attributes or tag == "a"


def test_style_loads_nothing():
    """The style neither imports nor points anywhere."""
    style = re.search(r"<style>(.*?)</style>", render(begun()), re.DOTALL)[1]
    assert "url(" not in style
    assert "@import" not in style


def test_hostile_text_is_escaped():
    """Nothing that comes from data, a person or an error reaches the page as markup."""
    table = predictions("multiclass", classes=(HOSTILE, "a", "b", "c"))
    made = case("multiclass", slices=(HOSTILE, "x=y[z]"))
    night = judged("multiclass", made=made, actor=HOSTILE, reason=HOSTILE, overrides={HOSTILE: HOSTILE})
    train = night.train.model_copy(update={"importance": {HOSTILE: 1.0}, "mlflow_url": "javascript:alert(1)"})
    warned = night.validate_.model_copy(update={"warnings": (HOSTILE,) * 60})
    night = night.with_result("train", train).with_result("validate", warned)
    html = render(night, pipeline("multiclass", description=HOSTILE), table, (), TWO)
    html += render(ended("failed", "score", HOSTILE, HOSTILE))
    assert "<script" not in html
    assert "javascript:" not in html
    assert "&lt;script&gt;" in html
    assert "&amp;lt;" not in html
    assert "x=y[z]" in html


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), float("-inf"), 1e308])
@pytest.mark.parametrize("task", METRICS)
def test_odd_metrics_do_not_break_the_page(task, value):
    """Missing, infinite and enormous metrics and losses are shown as what they are."""
    metrics = dict.fromkeys(METRICS[task], value)
    loss = 0.0 if value is None else value
    league = tuple(
        Evidence(day=f"2013-06-{i:02}", rows=5, champion=1, challenger=2, difference=loss, scale=1.0)
        for i in range(1, 9)
    )
    days = tuple(DayLoss(day=f"2013-06-{i:02}", rows=5, champion=loss, challenger=-loss) for i in range(1, 9))
    name = pipeline(task).spec.gates[-1].loss
    wide = dict.fromkeys([*METRICS[task], "champion.auc", "auc[origin=JFK]"], (loss, loss))
    made = CaseForPromotion(
        metrics={k: MetricValue(value=v, rows=5) for k, v in metrics.items()} | {"auc[origin=JFK]": MetricValue(value=value, rows=1)},
        champion=True, champion_problem=None, paired={name: days}, trial=Trial(lane="recipe", evidence={name: league}), intervals=wide,
    )  # fmt: skip
    flow = pipeline(task, gates=[*GATES[task], {**EVIDENCE, "loss": name}])
    night = judged(task, flow, made=made)
    evaluated = night.evaluate.model_copy(update={"challenger": metrics, "champion": metrics, "case": made})
    html = render(night.with_result("evaluate", evaluated), flow, predictions(task), [night], TWO)
    assert not re.search(r'(d|x|y|cx|cy|width|height)="[^"]*(nan|inf)', html)


@pytest.mark.parametrize("task", METRICS)
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_predictions_do_not_break_the_page(task, rows):
    """A hold-out of no row, one row or two rows still makes a page."""
    classes = ("early", "on time", "late", "cancelled")
    assert "REFUSED" in render(
        judged(task, made=case(task, better=-0.012)), pipeline(task), predictions(task, rows=rows, classes=classes)
    )


@pytest.mark.parametrize("task", METRICS)
def test_rows_without_a_use_are_left_out_of_plots(task):
    """Labels that a model never met, predictions that are missing or not finite, are left out of the plots."""
    table = predictions(task, rows=60)
    label, champion = table["label"].to_pylist(), table["champion"].to_pylist()
    label[:3], champion[5:40] = [-1.0, float("nan"), float("inf")], [None] * 35
    table = table.set_column(2, "label", pa.array(label)).set_column(4, "champion", pa.array(champion))
    html = render(judged(task), pipeline(task), table)
    assert html.count("<svg") >= 4
    assert "nan" not in "".join(re.findall(r'd="[^"]*"', html))


def test_text_that_is_no_unicode_does_not_break_the_page():
    """A lone surrogate, as odd file names give, is replaced."""
    assert "no such file: ?" in render(ended("failed", "snapshot", "OSError", "no such file: \udcff"))


def test_a_single_class_has_no_roc():
    """With one class in the hold-out there is no ROC curve, but the page stands."""
    table = predictions(rows=50)
    html = render(judged(), rows=table.set_column(2, "label", pa.array(np.zeros(50))))
    assert "ROC" not in html
    assert "Calibration" in html


def test_rows_add_up():
    """Every landed row is accounted for."""
    html = render(judged())
    shown = re.search(r"What became of the rows.*?<small>([\d,]+) rows landed", html, re.DOTALL)
    parts = re.findall(r'title="[^"]*">[^<]*? ([\d,]+)</span>', html)
    assert sum(int(p.replace(",", "")) for p in parts) == int(shown[1].replace(",", "")) == 83_002


def test_what_the_audit_has_looked_at_and_what_was_fitted_again_is_said():
    """The page tells what was looked at for leaks, and that another fit is registered than the one that is judged."""
    night = judged()
    told = {"audited": ("features computed again: 912 rows of 2013-06-02",), "evaluated": "e" * 64, "refitted": 79_919}
    html = render(night.with_result("train", night.train.model_copy(update=told)))
    assert "Looked at: features computed again: 912 rows of 2013-06-02." in html
    assert "Another one is registered, of as many rounds on 79,919 rows" in html
    assert "Another one is registered" not in render(night)


def test_what_is_left_out_of_the_data_is_named():
    """Rows in quarantine, late and released partitions and findings over the window stand on the page, with what to do."""
    html = render(judged())
    for words in (
        "17 single rows", "as a whole, 842 rows", "ratchet quarantine show flight_delay", "412 rows, 883 are usual on a Saturday",
        "dt=2013-06-25/flights.parquet: 4 days", "2013-06-11", "rows in quarantine 17",
    ):  # fmt: skip
        assert words in html


def drifted():
    """Return what a night says of a carrier that is new and an hour that has moved."""
    days = tuple(CUTOFF - timedelta(days=28 - i) for i in range(28))
    carrier = SubjectDrift(
        subject="feature carrier", against="previous", days=1, psi=0.81, js=0.1, usual=0.08, score=6.1, drifted=True,
        bins=("UA", "<b>ZZ</b>", "other"), before=(0.6, 0.1, 0.3), after=(0.2, 0.6, 0.2),
    )  # fmt: skip
    hour = SubjectDrift(
        subject="feature hour", against="training", days=7, psi=0.02, js=0.0, ks=0.05, wasserstein=0.2, usual=0.05, score=0.1, drifted=False,
        bins=tuple(f"below {i}" for i in range(20)), before=(0.05,) * 20, after=(0.05,) * 20,
    )  # fmt: skip
    return DriftResult(
        state="drift", words="drift on 2013-06-29: feature carrier", day=days[-1], champion=11, history=60, needed=30, score=6.1, limit=4.2,
        rank=0.02, since=days[-1], subjects=(carrier, hour), heat_days=days,
        heat={"feature carrier": (*(0.2,) * 26, None, 1.45), "feature hour": (0.1,) * 28},
    )  # fmt: skip


def test_drift_is_drawn():
    """The page shows each subject's last days in a heat map, a gap where a day is unknown, and what has moved before and after."""
    night = judged()
    night = night.with_result("score", night.score.model_copy(update={"drift": drifted()}))
    html = render(night)
    assert "drift on 2013-06-29: feature carrier" in html
    assert "carrier: 145% of the limit" in html
    assert html.count("carrier: 20% of the limit") == 26
    assert "carrier has drifted" in html
    assert "&lt;b&gt;ZZ&lt;/b&gt;: 60.0%" in html
    assert "the 12 of 20 that have moved most" in html


def test_drift_that_is_not_known_is_said():
    """Where history is too short the page says so in words, and draws nothing."""
    night = judged()
    short = DriftResult(state="too_short", words="9 past days are too few")
    html = render(night.with_result("score", night.score.model_copy(update={"drift": short})))
    assert "9 past days are too few" in html
    assert "Drift by day" not in html


def test_difference_needs_the_same_rows():
    """Where the champion was measured on fewer rows, no difference is claimed."""
    night = judged()
    fewer = night.evaluate.model_copy(update={"common_rows": 100, "differences": {}})
    assert "▲" in render(night)
    assert "▲" not in render(night.with_result("evaluate", fewer))


def test_a_difference_that_may_be_chance_is_said_to_be():
    """Each number has its interval below it; where that of a difference holds 0, better and worse are in doubt."""
    html = render(judged())
    assert '<small class="span">0.7243 … 0.7743</small>' in html
    assert '<small class="span">−0.0020 … +0.0200</small>' in html
    assert "better, or chance" in html
    old = judged().evaluate
    old = old.model_copy(update={"differences": {}, "case": old.case.model_copy(update={"intervals": {}})})
    assert "or chance" not in render(judged().with_result("evaluate", old))


def test_metrics_that_only_their_owner_can_weigh_are_not_called_better():
    """Of a business metric and of the share of alerts no direction is claimed."""
    night = judged()
    own = {"business.cost": 5.0, "alert_rate": 0.2}
    made = night.evaluate.model_copy(update={"challenger": own, "champion": {"business.cost": 4.0, "alert_rate": 0.1}})
    html = render(night.with_result("evaluate", made.model_copy(update={"differences": {}})))
    row = re.search(r"<tr><td>business.cost.*?</tr>", html, re.DOTALL)[0]
    assert "+1.0000" in row
    assert not re.search("▲|▼|↑|↓", row)


@pytest.mark.parametrize(
    ("task", "titles"),
    [
        ("binary", ["ROC", "Precision and recall", "Gain", "Calibration", "Scores by label", "log_loss by day"]),
        ("multiclass", ["Confusion", "Recall by class", "Calibration of the top class", "Confidence", "log_loss by day"]),
        ("regression", ["Predicted and actual", "Residuals by day", "Calibration", "Residuals", "absolute_error by day"]),
        ("quantile", ["Calibration of the quantiles", "Coverage by day", "Width of the predicted range", "Predicted and actual", "pinball by day"]),
        ("ranking", ["NDCG by depth", "NDCG of the first 10, by list", "Where the first relevant row stands", "ndcg_loss by day"]),
    ],
)  # fmt: skip
def test_each_task_has_its_plots(task, titles):
    """What a person wants to see of a task is drawn, both models in it, and each slice column as dots with intervals."""
    html = render(judged(task), pipeline(task), predictions(task), entries=TWO)
    drawn = re.findall(r"<figcaption>(.*?)</figcaption>", html)
    assert set(titles) <= set(drawn)
    assert {f"{pipeline(task).spec.gates[0].metric} by {column}" for column in ("origin", "carrier")} <= set(drawn)
    assert "95 %" in re.search(r"<figcaption>\w+ by origin.*?</figure>", html, re.DOTALL)[0]


def test_classes_with_long_names_are_told_apart():
    """Classes whose names begin alike are numbered, so that no two lines of the confusion matrix read the same."""
    names = ("tropical depression", "tropical storm", "subtropical depression", "subtropical storm")
    html = render(judged("multiclass"), pipeline("multiclass"), predictions("multiclass", classes=names))
    drawn = re.search(r"<figcaption>Confusion</figcaption>.*?</figure>", html, re.DOTALL)[0]
    labels = re.findall(r"<text[^>]*>(\d [^<]+)</text>", drawn)
    assert labels == ["1 tropical depre…", "2 tropical storm", "3 subtropical de…", "4 subtropical st…"]
    assert [label[0] for label in labels] == re.findall(r"<text[^>]*>(\d)</text>", drawn)


def test_rows_of_a_class_that_training_never_met_are_drawn():
    """They count as errors in every metric, so the plots show them: a line of the matrix, recall 0, and in the loss by day."""
    table = predictions("multiclass", champion=False)
    y = table["label"].to_numpy().copy()
    y[:100] = -1
    late = table.set_column(table.column_names.index("label"), "label", pa.array(y))
    html = render(judged("multiclass"), pipeline("multiclass"), late)
    assert re.search(r"actual \(never met\), predicted on time: \d+ rows", html)
    assert "challenger, (never met): recall 0.0% of 100 rows" in html
    met = render(judged("multiclass"), pipeline("multiclass"), table.filter(pa.array(y >= 0)))
    day = rf"{CUTOFF - timedelta(days=1)}: challenger ([\d.]+)"
    assert float(re.search(day, html)[1]) > float(re.search(day, met)[1])
    only = late.slice(0, 100)
    assert "actual (never met)" not in render(
        judged("multiclass"), pipeline("multiclass"), only
    )  # no column to be wrong in


def test_an_operating_point_is_marked():
    """The dot on the curves stands at the spec's threshold, and tells what is met there."""
    html = render(judged(), pipeline(evaluation={"slices": ["origin"], "threshold": 0.3}), predictions())
    assert re.search(r"challenger at 0\.3: recall \d+\.\d%, precision \d+\.\d%", html)
    assert "the dot is the operating point 0.3" in html


def test_champions_before_and_after():
    """A promotion shows both champions; a later entry of the ledger is not taken for this night's."""
    html = render(promoted(), entries=ledger(9, 11, 12, 13))
    assert re.search(r"Champion before</h3>\s*<div class=\"big\">version 11<", html)
    assert re.search(r"Champion after</h3>\s*<div class=\"big\">version 12<", html)
    assert "version 13 serves by entry 4" in html


def test_checks_that_were_not_reached_are_named():
    """A night that ended early still lists the gates, as not reached."""
    html = render(NIGHTS["rejected"][1])
    assert html.count("NOT REACHED") == len(pipeline().spec.gates)


def test_evidence_shows_how_far_it_is():
    """An evidence gate shows E, its limit and how many nights are left."""
    _, night, flow, rows, entries = NIGHTS["undecided"]
    html = render(night, flow, rows, (), entries)
    assert "20 decides" in html
    assert "24 days, signal to noise" in html


BEATEN = MustBeat(loss="log_loss", baselines=("average",))


def beaten(made, *, by):
    """Return a case in which the challenger's loss is so much above the average's on each day."""
    days = tuple(
        BaselineDay(day=day.day, rows=day.rows, baseline=day.challenger - by * (-1) ** i, challenger=day.challenger)
        for i, day in enumerate(made.paired["log_loss"])
    )
    return made.model_copy(update={"must_beat": BEATEN, "baselines": {"average": {"log_loss": days}}})


def test_a_night_that_only_a_baseline_holds_back_says_so():
    """Nothing is carried on: the model is not better than what needs none, and the next night makes another."""
    night = judged(made=beaten(case(), by=0.01))
    assert [check.kind for check in night.gate.verdict.checks if check.outcome is Outcome.UNDECIDED] == ["baselines"]
    found = page_words.headline(night, 11)
    assert found.sentence.startswith("Version 12 does not beat what one would have without it.")
    told = " ".join(found.steps)
    assert "carried on" not in told
    assert "The next night trains and judges anew" in told
    assert "baseline" in told


def test_the_page_of_a_segment_says_what_global_is():
    """The global model stands among the baselines, in words; where there is none nothing is said of it."""
    made = beaten(case(), by=0.01)
    beside = {**made.baselines, "global": made.baselines["average"]}
    assert "which would serve the segment otherwise" in render(
        judged(made=made.model_copy(update={"baselines": beside}))
    )
    assert "which would serve the segment otherwise" not in render(judged(made=made))


def test_a_night_that_lacks_proof_and_a_baseline_tells_of_both():
    """The evidence is carried on, and the baselines are told of."""
    found = page_words.headline(judged(flow=WITH_EVIDENCE, made=beaten(case(league_days=24), by=0.01)), 11)
    assert "not proved yet" in found.sentence
    assert "carried on" in found.steps[0]
    assert "baseline" in found.steps[1]
    assert "baseline" not in " ".join(page_words.headline(NIGHTS["undecided"][1], 11).steps)


def test_overrides_are_quoted_for_the_shell():
    """The command that makes the night again cannot smuggle in another one."""
    html = render(begun(overrides={"training.seed": "1; rm -rf /"}))
    assert "--set &#39;training.seed=1; rm -rf /&#39;" in html


def test_a_page_is_small():
    """A page of a large hold-out weighs less than a photograph."""
    night, rows = promoted(), predictions(rows=200_000)
    html = render(night, rows=rows, earlier=nights_before(30), entries=ledger(9, 11, 12))
    assert len(html) < 200_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "–"), (0.62, "0.6200"), (-0.00712, "−0.0071"), (20.0, "20"), (-0.0, "0"), (1e-9, "1.00e-09"), (12345.6, "12,346"), (float("nan"), "not a number"), (float("-inf"), "−∞")],
)  # fmt: skip
def test_numbers_for_people(value, text):
    """Numbers are written with as many digits as say something."""
    assert number(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (0.4711, 0.4712), (5, 5), (-3e9, 1e9), (float("nan"), 1), (0, 0)])
def test_axes_cover_their_range_with_few_round_ticks(low, high):
    """An axis covers what it was made for and has a handful of distinct labels."""
    made = axis(low, high)
    assert made.low <= np.nan_to_num(low) <= np.nan_to_num(high) <= made.high
    assert 3 <= len(made.ticks) <= 8
    assert len({label for _, label in made.ticks}) == len(made.ticks)


def test_alerts_stand_at_the_top_with_what_to_do():
    """What a person should hear of although nobody asked is told before the checks, and escaped."""
    night = promoted()
    night = night.with_result("promote", night.promote.model_copy(update={"repaired": f"moved by {HOSTILE}"}))
    html = render(night, entries=ledger(9, 11, 12))
    assert html.index("<b>Alerts</b>") < html.index('id="checks"')
    assert "ratchet reconcile flight_delay --adopt" in html
    assert HOSTILE not in html
    calm = promoted()
    calm = calm.with_result("validate", calm.validate_.model_copy(update={"findings": ()}))
    assert "<b>Alerts</b>" not in render(calm, entries=ledger(9, 11, 12))


def test_a_headline_that_is_too_long_says_so():
    """It fits into a note, and ends where it is cut with an ellipsis, not within a word as if that were all."""
    night = judged()
    check = night.gate.verdict.checks[0].model_copy(update={"outcome": Outcome.UNDECIDED, "reason": "word " * 400})
    verdict = night.gate.verdict.model_copy(update={"outcome": "UNDECIDED", "checks": (check,)})
    night = night.with_result("gate", night.gate.model_copy(update={"verdict": verdict}))
    assert len(headline(night)) == 1000
    assert "… ALERT: " in headline(night)


def test_whom_a_proof_promotes_is_named():
    """Where a challenger of an earlier night becomes champion the page says so, not that tonight's does."""
    night = promoted()
    night = night.with_result("promote", night.promote.model_copy(update={"version": 10}))
    html = render(night, entries=ledger(9, 11, 10))
    assert "Version 10, from the shadow, is the new champion, after version 11." in html
    assert "v10 serves" in headline(night)
