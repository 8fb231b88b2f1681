"""Leaks, planted: whole nights find them, name them, and promote nobody."""

from __future__ import annotations

import io
from datetime import datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_world import DAYS, FIRST, NIGHT, ROWS, SPEC, SQL, World, partition

from ratchet.domain.night import TuneResult
from ratchet.errors import SpecInvalid

DAY = timedelta(days=1)
LATER = "SELECT row_id, x, z, place, {} AS planted FROM rows"
PEOPLE = [f"p{i}" for i in range(ROWS)]  # each comes once a day
LEAKS = {
    "an entity's next row": "lead(x) OVER (PARTITION BY who ORDER BY dt)",
    "an entity's whole life": "avg(x) OVER (PARTITION BY who)",
    "a scaling by all rows": "x / (SELECT stddev(x) FROM rows)",
    "a rank among all rows": "percent_rank() OVER (ORDER BY z)",
    "an entity's last place": "last(place) OVER (PARTITION BY who ORDER BY dt ROWS BETWEEN CURRENT ROW AND UNBOUNDED FOLLOWING)",
    "whether there will be another": "CASE WHEN lead(dt) OVER (PARTITION BY who ORDER BY dt) IS NULL THEN 'last' ELSE 'more' END",
}
HONEST = {
    "an entity's row before": "lag(x) OVER (PARTITION BY who ORDER BY dt)",
    "an entity's past": "avg(x) OVER (PARTITION BY who ORDER BY dt ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)",
    "the day before": "avg(x) OVER (ORDER BY dt RANGE BETWEEN INTERVAL 3 DAYS PRECEDING AND INTERVAL 1 DAY PRECEDING)",
    "its own row": "abs(x) + length(place)",
    "what is unknown, as null": "nullif(x, x)",
}


def days():
    """Return the days of the window."""
    return [FIRST + i * DAY for i in range(DAYS)]


def with_sql(world, sql, **overrides):
    """Return the world's pipeline with another query."""
    return world.pipeline(**overrides).model_copy(update={"sql": sql})


def table(**columns):
    """Return rows of a side table as Parquet."""
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


@pytest.fixture
def people(tmp_path):
    """Return a world whose rows are of people, each of whom comes every day."""
    return World(tmp_path).land_all(who=PEOPLE)


@pytest.mark.parametrize("leak", LEAKS.values(), ids=LEAKS)
def test_a_feature_that_looks_past_the_event_holds_the_promotion(people, leak):
    """It is named with day, rows and how it has changed, and nobody is promoted; no value of a row is told."""
    night = people.night(pipeline=with_sql(people, LATER.format(leak)))
    (finding,) = night.findings
    assert (finding.kind, finding.action, finding.subject) == ("lookahead", "hold", "planted")
    assert "rows of 2024-03-0" in finding.words
    assert "validation.window.lookahead.allowed" in finding.words
    assert 0 < finding.value <= 1
    assert (night.outcome, people.entries) == ("undecided", ())
    assert any(reason.startswith("lookahead planted: ") for reason in night.reasons)


@pytest.mark.parametrize("feature", HONEST.values(), ids=HONEST)
def test_a_feature_of_the_past_is_left_in_peace(people, feature):
    """However it looks back; and the night says what was looked at."""
    night = people.night(pipeline=with_sql(people, LATER.format(feature)))
    assert (night.findings, night.outcome) == ((), "promoted")
    assert night.train.audited[0].startswith(
        f"features computed again from tables that end there: {ROWS} rows of 2024-"
    )
    assert night.train.audited[0].count(" rows of ") == 1


def test_a_choice_of_rows_by_what_came_later_is_found(people):
    """A query that keeps only each person's last row but one has chosen by the future."""
    sql = f"{SQL} QUALIFY lead(dt) OVER (PARTITION BY who ORDER BY dt) IS NOT NULL OR dt = DATE '{NIGHT}'"
    night = people.night(pipeline=with_sql(people, sql))
    assert [(f.kind, f.subject) for f in night.findings] == [("lookahead", "rows")]
    assert f"{ROWS} were left out that now are not" in night.findings[0].words


def test_what_is_known_in_time_can_be_allowed_rejected_or_not_looked_at(people):
    """The spec says what follows; the model that is not audited is promoted at the user's own risk."""
    leaking = LATER.format(LEAKS["an entity's next row"])

    def night(**check):
        given = {f"validation__window__lookahead__{key}": value for key, value in check.items()}
        return people.night(pipeline=with_sql(people, leaking, **given))

    assert night(allowed=["planted"]).outcome == "promoted"
    assert night(action="warn").findings[0].action == "warn"
    rejected = night(action="reject")
    assert (rejected.outcome, rejected.ended.reason, rejected.ended.step) == ("rejected", "lookahead", "train")
    off = night(action="off")
    assert (off.findings, len(off.train.audited)) == ((), 1)


def test_the_same_night_looks_at_the_same_days_and_another_night_at_others(tmp_path):
    """Which days are looked at follows from the snapshot."""
    worlds = [World(tmp_path / name).land_all(NIGHT + 3 * DAY, who=PEOPLE) for name in "ab"]
    nights = [world.night(cutoff).train.audited[0] for world in worlds for cutoff in (NIGHT, NIGHT + 2 * DAY)]
    assert nights[:2] == nights[2:]
    assert nights[0] != nights[1]


def test_a_side_table_of_later_days_is_seen(tmp_path):
    """A join to the newest that there is, whenever that was, is found; one to the day's own is not."""
    spec = yaml.safe_load(SPEC)
    spec["source"]["tables"] = {"air": {"uri": "s3://lake/air/", "format": "parquet"}}
    world = World(tmp_path, yaml.safe_dump(spec)).land_all()
    for i, day in enumerate([FIRST - DAY, *days()]):
        world.store.put(
            f"s3://lake/air/dt={day}/air.parquet", table(place=["north", "south"], warm=[float(i), -float(i)])
        )
    newest = "SELECT row_id, x, z, rows.place, warm FROM rows JOIN air ON rows.place = air.place AND air.dt = {}"
    leaking = world.night(pipeline=with_sql(world, newest.format("(SELECT max(dt) FROM air)")))
    assert [(f.kind, f.subject) for f in leaking.findings] == [("lookahead", "warm")]
    honest = with_sql(world, newest.format("rows.dt"))
    assert world.night(pipeline=honest).findings == ()


def test_a_side_table_that_landed_once_cannot_be_looked_behind_and_that_is_said(tmp_path):
    """Where no day has a past that reads, the night warns that nothing was looked at."""
    spec = yaml.safe_load(SPEC)
    spec["source"]["tables"] = {"air": {"uri": "s3://lake/air/", "format": "parquet"}}
    world = World(tmp_path, yaml.safe_dump(spec)).land_all()
    world.store.put(f"s3://lake/air/dt={NIGHT}/air.parquet", table(place=["north", "south"], warm=[1.0, 2.0]))
    night = world.night(pipeline=with_sql(world, "SELECT row_id, x, place, warm FROM rows LEFT JOIN air USING (place)"))
    assert [(f.kind, f.action) for f in night.findings] == [("lookahead", "warn")]
    assert "could not be seen" in night.findings[0].words


class Timed(World):
    """A world whose rows have times, and which measures the air every other hour."""

    def __init__(self, folder, **window):
        spec = yaml.safe_load(SPEC)
        spec["validation"]["window"] = {"event_time": "happened", **window}
        air = {"uri": "s3://lake/air/", "format": "parquet", "known_at": "measured"}
        spec["source"]["tables"] = {"air": air}
        super().__init__(folder, yaml.safe_dump(spec))
        for day in [FIRST - DAY, *days()]:
            midnight, random = datetime(day.year, day.month, day.day), np.random.default_rng(day.toordinal())  # noqa: DTZ001
            at = [midnight + timedelta(minutes=30 * row) for row in range(ROWS)]
            if day >= FIRST:
                self.land(day, happened=at, who=[f"p{row % 8}" for row in range(ROWS)])
            measured = [midnight + timedelta(hours=2 * i) for i in range(12)]
            warm = table(measured=measured, warm=random.normal(size=12))
            self.store.put(f"s3://lake/air/dt={day}/air.parquet", warm)


WITHIN = {
    "the day's total": ("rows", "sum(x) OVER (PARTITION BY dt)"),
    "the next of the same day": ("rows", "lead(x) OVER (PARTITION BY who, dt ORDER BY happened)"),
    "the evening's air": ("air", "(SELECT max(warm) FROM air WHERE air.dt = rows.dt)"),
    "the next air": (
        "air",
        "(SELECT arg_min(warm, measured) FROM air WHERE air.dt = rows.dt AND measured > rows.happened)",
    ),
}


@pytest.mark.parametrize(("where", "leak"), WITHIN.values(), ids=WITHIN)
def test_what_comes_later_on_the_same_day_is_found_where_the_spec_tells_times(tmp_path, where, leak):
    """Rows by validation.window.event_time, side tables by their known_at: the tables end in the middle of the day."""
    del where
    world = Timed(tmp_path)
    night = world.night(pipeline=with_sql(world, LATER.format(leak)))
    assert [(f.kind, f.action, f.subject) for f in night.findings] == [("lookahead", "hold", "planted")]
    assert "half of the events of 2024-03-0" in night.findings[0].words
    assert f"of {ROWS // 2} rows" in night.findings[0].words


@pytest.mark.parametrize(
    "feature",
    [
        "lag(x) OVER (PARTITION BY who ORDER BY happened)",
        "(SELECT arg_max(warm, measured) FROM air WHERE air.measured <= rows.happened)",
        "count(*) OVER (PARTITION BY dt ORDER BY happened)",
    ],
)
def test_what_came_earlier_on_the_same_day_is_left_in_peace(tmp_path, feature):
    """Windows and joins that are bounded by time are the same in the middle of the day."""
    world = Timed(tmp_path)
    night = world.night(pipeline=with_sql(world, LATER.format(feature)))
    assert (night.findings, night.outcome) == ((), "promoted")


def test_a_time_that_a_side_table_has_not_is_the_specs_fault(tmp_path):
    """It is named with the columns that there are."""
    world = Timed(tmp_path)
    wrong = with_sql(world, SQL, source__tables__air__known_at="noticed")
    with pytest.raises(SpecInvalid, match=r"source.tables.air.known_at: the table has no column 'noticed'"):
        world.night(pipeline=wrong)


# --- columns that are unknown when a prediction is made


HIDDEN = {
    "by its name": "SELECT row_id, x, y AS planted FROM rows",
    "in another case": 'SELECT row_id, x, "Y"::INT AS planted FROM rows',
    "by an alias of the table": "SELECT r.row_id, r.x, r.y AS planted FROM rows AS r",
    "through a common table expression": "WITH v AS (SELECT * FROM rows) SELECT row_id, x, y AS planted FROM v",
    "in a sub-query": "SELECT row_id, x, (SELECT max(y) FROM rows AS o WHERE o.id = rows.id) AS planted FROM rows",
    "as part of the row": "SELECT row_id, x, rows.y AS planted FROM rows",
    "by a pattern of names": "SELECT row_id, x, COLUMNS('^y$') FROM rows",
    "from a side table of the same place": "SELECT rows.row_id, rows.x, again.y AS planted FROM rows JOIN again USING (id)",
    "from a side table of the same place, all columns": "SELECT rows.row_id, again.* EXCLUDE (id, dt), again.y AS p FROM rows JOIN again USING (id)",
    "from the file itself": "SELECT row_id, x, f.y AS planted FROM rows JOIN read_parquet('{file}') AS f USING (id)",
}


@pytest.mark.parametrize("sql", HIDDEN.values(), ids=HIDDEN)
def test_what_is_unknown_at_prediction_cannot_be_had(tmp_path, sql):
    """Whatever way the query names the column, it is not there, and the night says so before anything is trained."""
    spec = yaml.safe_load(SPEC)
    spec["source"]["tables"] = {"again": {"uri": "s3://lake/rows/", "format": "parquet"}}
    world = World(tmp_path, yaml.safe_dump(spec)).land_all()
    file = tmp_path / "outside.parquet"
    file.write_bytes(world.store.get(world.uri(NIGHT)))
    with pytest.raises(SpecInvalid) as caught:
        world.night(pipeline=with_sql(world, sql.replace("{file}", str(file))))
    words = str(caught.value)
    assert "unknown at prediction time" in words or "no other file" in words or "No matching columns" in words
    assert world.registry.runs == {}


def test_a_star_gives_what_is_known_and_nothing_else(tmp_path):
    """``SELECT *`` is no way around: the hidden column is not among the features that the model has learnt from."""
    world = World(tmp_path).land_all()
    night = world.night(pipeline=with_sql(world, "SELECT * FROM rows"))
    assert set(night.train.importance) == {"id", "x", "z", "place"}


def test_the_label_under_another_name_is_found_by_what_it_tells(tmp_path):
    """A copy of the label, in another table and under another name, nearly decides it; no name can hide that."""
    spec = yaml.safe_load(SPEC)
    spec["source"]["tables"] = {"bills": {"uri": "s3://lake/bills/", "format": "parquet", "days_before": 0}}
    world = World(tmp_path, yaml.safe_dump(spec)).land_all()
    for day in days():
        rows = pq.read_table(io.BytesIO(world.store.get(world.uri(day))))
        paid = [None if y else 3.5 for y in rows["y"].to_pylist()]  # a bill is paid by those who are not hot
        world.store.put(f"s3://lake/bills/dt={day}/b.parquet", table(id=rows["id"], paid=pa.array(paid, pa.float64())))
    sql = "SELECT row_id, x, z, place, paid FROM rows LEFT JOIN bills USING (id)"
    night = world.night(pipeline=with_sql(world, sql))
    assert [(f.kind, f.action, f.subject) for f in night.findings] == [("leak", "hold", "paid")]
    assert night.outcome == "undecided"


# --- days that judge a model which has met them


def test_a_search_that_has_met_the_holdout_holds_the_promotion(tmp_path):
    """Parameters that were chosen on the days that decide would be judged by their own choice."""
    world = World(tmp_path).land_all()
    night = world.until("train")
    tuned = TuneResult(source="search", params={}, why="planted", seen_through=NIGHT - DAY)
    night = night.model_copy(update={"tune": tuned})
    for step in ("train", "evaluate", "register", "gate"):
        night = world.step(step, night)
    assert [(f.kind, f.subject) for f in night.findings] == [("met", "tuner")]
    assert "the hold-out 2024-03-06 … 2024-03-08" in night.findings[0].words
    assert (night.gate.verdict.outcome, world.entries) == ("UNDECIDED", ())


def test_a_champion_scored_on_a_day_that_it_has_met_holds_the_promotion(tmp_path):
    """Its losses there are those of a pupil who knew the questions."""
    world = World(tmp_path).land_all(NIGHT + DAY)
    world.night()
    night = world.until("train", NIGHT + DAY)
    met = [day.model_copy(update={"day": night.score.champion.seen_through}) for day in night.score.scores]
    night = night.model_copy(update={"score": night.score.model_copy(update={"scores": tuple(met)})})
    night = world.step("train", night)
    assert [(f.kind, f.subject) for f in night.findings] == [("met", "champion v1")]


def test_a_clean_night_says_who_has_met_what(tmp_path):
    """The record tells up to which day challenger and champion have learnt, and when the hold-out begins."""
    world = World(tmp_path).land_all(NIGHT + DAY)
    world.night()
    night = world.night(NIGHT + DAY)
    assert night.train.audited[1] == (
        "the hold-out begins on 2024-03-07; challenger has met none after 2024-03-06, champion has met none after 2024-03-05"
    )


# --- one feature that nearly decides the label


TASKS = {
    "binary": {"task": "binary", "sql": "y"},
    "multiclass": {"task": "multiclass", "sql": "CASE WHEN x > 0.5 THEN 'a' WHEN x > -0.5 THEN 'b' ELSE 'c' END"},
    "regression": {"task": "regression", "sql": "z * 3"},
    "quantile": {"task": "quantile", "sql": "z * 3", "quantiles": [0.1, 0.5, 0.9]},
    "ranking": {"task": "ranking", "sql": "least(greatest(floor(z * 2 + 3), 0), 6)", "group": "id // 10"},
}
METRICS = {"binary": "auc", "multiclass": "macro_f1", "regression": "rmse", "quantile": "pinball", "ranking": "ndcg"}
DISGUISES = {
    "by its order": "-2 * ({label}) + 7",
    "as a category": "concat('code ', {label})",
    "by its nulls": "CASE WHEN {label} THEN NULL ELSE id % 7 END",
}


@pytest.mark.parametrize(
    ("task", "disguise"),
    [
        ("binary", "as a category"),
        ("binary", "by its nulls"),
        ("multiclass", "as a category"),
        ("regression", "by its order"),
        ("quantile", "by its order"),
        ("ranking", "by its order"),
        ("ranking", "as a category"),
    ],
)
def test_a_feature_that_tells_the_label_holds_the_promotion_whatever_the_task(tmp_path, task, disguise):
    """By its order, as a category or by its nulls; the check is on by default."""
    spec = yaml.safe_load(SPEC)
    spec["target"] = TASKS[task]
    spec["source"]["unknown_at_prediction"] = []
    bound = {"at_least": -99.0} if task in {"binary", "multiclass", "ranking"} else {"at_most": 99.0}
    spec["gates"] = [{"kind": "bound", "metric": METRICS[task], **bound}]
    world = World(tmp_path, yaml.safe_dump(spec)).land_all()
    planted = DISGUISES[disguise].format(label=TASKS[task]["sql"])
    night = world.night(pipeline=with_sql(world, f"SELECT row_id, id % 10 AS q, place, {planted} AS planted FROM rows"))
    assert [(f.kind, f.action, f.subject) for f in night.findings] == [("leak", "hold", "planted")]
    assert (night.outcome, world.entries) == ("undecided", ())


@pytest.mark.parametrize(
    ("feature", "found"), [(LEAKS["an entity's next row"], ["planted"]), (HONEST["an entity's row before"], [])]
)
def test_rows_that_carry_their_dates_are_cut_by_them(tmp_path, feature, found):
    """Where files hold several days, the tables end in the middle of a file."""
    spec = yaml.safe_load(SPEC)
    spec["source"]["partition"] = {"by": "column", "column": "on"}
    world = World(tmp_path, yaml.safe_dump(spec))
    for i in range(0, DAYS, 2):
        pair = [FIRST + i * DAY, FIRST + (i + 1) * DAY]
        parts = [pq.read_table(io.BytesIO(partition(day, who=PEOPLE, on=[day] * ROWS))) for day in pair]
        out = io.BytesIO()
        pq.write_table(pa.concat_tables(parts), out)
        world.store.put(f"s3://lake/rows/{i}.parquet", out.getvalue())
    night = world.night(pipeline=with_sql(world, LATER.format(feature)))
    assert [f.subject for f in night.findings] == found
    assert night.train.audited[0].count(f"{ROWS} rows of ") == 1
