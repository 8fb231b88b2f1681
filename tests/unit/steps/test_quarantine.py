"""What is left out of a night, row by row and partition by partition, and how it comes back."""

from __future__ import annotations

import io
from datetime import timedelta

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from small_world import DAYS, FIRST, NIGHT, ROWS, SPEC, SUITE, World, partition

from ratchet.domain.night import ValidateResult
from ratchet.errors import ActionRefused, RowsUnaccounted
from ratchet.steps.release import held, release, rows

NEXT = NIGHT + timedelta(days=1)
BAD = FIRST + timedelta(days=3)  # a day that the fit watches
REASON = "expect_column_values_to_be_between(x): expected {'column': 'x', 'min_value': -9, 'max_value': 9}"
QUIET = {"volume": {"action": "off"}, "duplicates": {"action": "off"}, "overlap": {"action": "off"}}


def broken(*at, value=99.0, day=BAD):
    """Return a day's x with some values that break the suite."""
    x = np.random.default_rng(day.toordinal()).normal(size=ROWS)
    x[list(at)] = value
    return x


def strict(world, **rules):
    """Return the pipeline with other rules of validation."""
    return world.pipeline(**{f"validation__{name}": value for name, value in rules.items()})


def kept(world, validated):
    """Read the file of a partition's broken rows."""
    return pq.read_table(io.BytesIO(world.store.get(validated.quarantined_rows[0].kept))).to_pylist()


def test_only_the_broken_rows_are_left_out_and_kept_with_their_reasons(world):
    """Of a partition with a few bad rows the others are trained on; the bad ones are kept with place, reason and columns."""
    world.land(BAD, x=broken(3, 7))
    night = world.night()
    (found,) = night.validate_.quarantined_rows
    assert night.outcome == "promoted"
    assert night.validate_.quarantined == ()
    assert (found.partition, found.rows, night.validate_.rows) == (str(BAD), 2, DAYS * ROWS - 2)
    assert found.reasons == (f"{REASON}: 2 of 40 rows (5.00%) break it",)
    first, second = kept(world, night.validate_)
    assert (first["_key"], first["_row"], second["_row"]) == (f"rows/dt={BAD}/part.parquet", 4, 8)
    assert (first["_reasons"], first["x"], first["id"]) == ([REASON], 99.0, BAD.toordinal() * 1000 + 3)
    account = night.train.account
    assert (account.landed, account.quarantined_rows, account.missing) == (DAYS * ROWS, 2, 0)
    assert account.fitted + account.watched + account.held_out == DAYS * ROWS - 2


def test_no_value_of_a_broken_row_is_told(world):
    """What stands in a row may be personal: neither the night's record nor its reasons repeat it."""
    world.land(BAD, x=broken(3, value=123456.789))
    night = world.night()
    assert night.validate_.quarantined_rows
    assert "123456" not in night.model_dump_json()


def test_rows_of_several_files_are_left_out_each_where_it_stands(world):
    """Rows count from 1 in each file of a partition; two files with the same bytes lose the same rows."""
    second = partition(BAD + timedelta(days=100), x=broken(0, day=NEXT))
    for name in ("b", "c"):
        world.store.put(f"s3://lake/rows/dt={BAD}/{name}.parquet", second)
    world.land(BAD, x=broken(39))
    night = world.night(pipeline=strict(world, window=QUIET))
    assert [(row["_key"][-9:], row["_row"]) for row in kept(world, night.validate_)] == [
        ("b.parquet", 1),
        ("c.parquet", 1),
        ("t.parquet", 40),
    ]
    assert night.train.account.quarantined_rows == night.validate_.quarantined_rows[0].rows == 3


@pytest.mark.parametrize("lost", [".json", ".parquet"])
def test_what_was_kept_of_broken_rows_may_get_lost(world, lost):
    """Where somebody has deleted the note, the partition is validated again; where the rows, they are named again or it is left out."""
    world.land(BAD, x=broken(3, 7))
    world.night()
    for key in world.store.keys("quarantine/"):
        if key.endswith(lost):
            world.store.lose(key)
    world.land(NEXT)
    night = world.night(NEXT, services=world.machine("elsewhere"))
    assert [(q.partition, q.rows) for q in night.validate_.quarantined_rows] == [(str(BAD), 2)]
    assert night.train.account.quarantined_rows == 2


def test_a_partition_with_too_many_broken_rows_goes_as_a_whole(world):
    """Beyond max_broken_rows nobody trusts the rest, and the rows are not copied."""
    world.land(BAD, x=broken(*range(5)))
    night = world.night(pipeline=strict(world, max_quarantined=0.3))
    assert [(q.partition, q.rows) for q in night.validate_.quarantined] == [(str(BAD), ROWS)]
    assert night.validate_.quarantined_rows == ()
    assert "5 of 40 rows (12.50%)" in night.validate_.quarantined[0].reasons[0]
    assert [key for key in world.store.keys("quarantine/") if key.endswith(".parquet")] == []
    assert night.train.account.quarantined_partitions == ROWS


def test_a_spec_that_asks_for_less_names_the_rows_later(world):
    """The result of a partition does not depend on the spec's limits: with another one its rows are named without validating."""
    world.land(BAD, x=broken(*range(5)))
    world.night(pipeline=strict(world, max_quarantined=0.3))
    batches = world.validator.batches
    night = world.night(pipeline=strict(world, max_broken_rows=0.2))
    assert (night.validate_.quarantined, night.validate_.quarantined_rows[0].rows) == ((), 5)
    assert world.validator.batches == batches


def test_a_spec_may_leave_out_whole_partitions_only(world):
    """With quarantine_partition one bad row takes its partition with it."""
    world.land(BAD, x=broken(3))
    night = world.night(pipeline=strict(world, on_critical="quarantine_partition", max_quarantined=0.3))
    assert [q.partition for q in night.validate_.quarantined] == [str(BAD)]


def test_an_expectation_about_more_than_rows_takes_the_partition(tmp_path):
    """Where no single row is to blame the partition is left out as a whole, with what was found."""
    count = {"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 30, "max_value": 99}}
    world = World(tmp_path, suite={**SUITE, "expectations": [*SUITE["expectations"], count]}).land_all()
    world.land(BAD, partition(BAD, 20, x=broken(3)[:20]))
    night = world.night()
    assert "expect_table_row_count_to_be_between" in night.validate_.quarantined[0].reasons[0]
    assert "found 20" in night.validate_.quarantined[0].reasons[0]


def rejected(world, reason, *words, cutoff=NIGHT, **rules):
    """Run a night that must be rejected."""
    night = world.night(cutoff, pipeline=strict(world, **rules))
    assert (night.outcome, night.ended.step, night.ended.reason) == ("rejected", "validate", reason)
    assert all(word in night.ended.detail for word in words), night.ended.detail
    return night


def test_a_spec_may_reject_the_night_for_one_row(world):
    """With on_critical: reject nothing is left out silently."""
    world.land(BAD, x=broken(3))
    rejected(world, "validation", "1 of 8 partitions", str(BAD), "1 of 40 rows", on_critical="reject")


def test_too_many_broken_rows_over_the_window_reject_the_night(world):
    """A little of everything is much: the share of all rows has a limit of its own."""
    for i in range(4):
        day = FIRST + timedelta(days=i)
        world.land(day, x=broken(3, 4, 5, day=day))
    rejected(world, "quarantined", "12 of 320 rows", "max_quarantined_rows allows 2.0%", "ratchet quarantine list")


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ({"z": ["text"] * ROWS}, f"column z of rows/dt={BAD}/part.parquet: expected DOUBLE as in rows/dt=2024-03-01"),
        ({"zz": np.zeros(ROWS), "z": None}, "lacks column z (DOUBLE), which 7 of 8 partitions have"),
        ({"more": np.zeros(ROWS)}, "has a column more (DOUBLE), which only 1 of 8 partitions have"),
        ({"more": np.zeros(ROWS)}, "If it may come and go, name it in source.ignore"),
    ],
)
def test_a_partition_whose_columns_are_others_is_quarantined_or_rejects_the_night(world, columns, words):
    """A column of another type, missing, renamed or extra is told with file, expected and found; the spec says what follows."""
    table = pq.read_table(io.BytesIO(partition(BAD, **{n: v for n, v in columns.items() if v is not None})))
    out = io.BytesIO()
    pq.write_table(table.drop_columns([name for name, value in columns.items() if value is None]), out)
    world.land(BAD, out.getvalue())
    night = world.night()
    assert night.outcome == "promoted"
    assert words in " ".join(night.validate_.quarantined[0].reasons)
    assert night.train.account.quarantined_partitions == ROWS
    rejected(world, "schema", words, on_critical="reject")


def test_a_column_that_the_spec_ignores_may_come_and_go(world):
    """A column that nobody reads quarantines nothing."""
    world.land(BAD, more=np.zeros(ROWS))
    night = world.night(pipeline=world.pipeline(source__ignore=["more"]))
    assert (night.validate_.quarantined, night.outcome) == ((), "promoted")


def csv(day, *lines, header="id,x,z,place,y", z="0.5"):
    """Return a day of CSV; each given line takes the place of a row."""
    rng = np.random.default_rng(day.toordinal())
    x = rng.normal(size=ROWS)
    made = [f"{i},{x[i]:.3f},{z},north,{str(x[i] + rng.normal() / 2 > 0).lower()}" for i in range(ROWS)]
    made[5 : 5 + len(lines)] = lines
    return "\n".join([header, *made, ""]).encode()


@pytest.fixture
def texts(tmp_path):
    """A world of CSV files."""
    spec = yaml.safe_load(SPEC)
    spec["source"] |= {"format": "csv", "columns": {"x": "DOUBLE"}}
    spec["validation"] |= {"window": QUIET}
    world = World(tmp_path, yaml.safe_dump(spec))
    world.uri = lambda day: f"s3://lake/rows/dt={day}/part.csv"
    for i in range(DAYS):
        world.land(FIRST + timedelta(days=i), csv(FIRST + timedelta(days=i)))
    return world


@pytest.mark.parametrize(
    ("line", "reason", "words"),
    [
        (b"1,2.0", "malformed", "line 7: missing columns"),
        (b"1,2.0,3,north,true,6", "malformed", "line 7: too many columns"),
        (b"1,2.0,3,n\xf6rd,true", "malformed", "line 7: invalid encoding"),
        (b"1,N/A,3,north,true", "malformed", "column x: expected DOUBLE, found other text in 1 rows: row 6"),
        (
            b"1,2.0,N/A,north,true",
            "schema",
            "expected DOUBLE as in rows/dt=2024-03-01/part.csv, found VARCHAR in 1 of 40",
        ),
    ],
)
def test_rows_that_cannot_be_read_take_their_partition_with_their_numbers(texts, line, reason, words):
    """Wrong field counts, encodings and null texts that nobody declared name file and rows; the night goes on without that partition."""
    data = csv(BAD).split(b"\n")
    data[6] = line
    texts.land(BAD, b"\n".join(data))
    night = texts.night()
    (found,) = night.validate_.quarantined
    assert (night.outcome, found.partition) == ("promoted", str(BAD))
    assert words in found.reasons[0]
    assert "N/A" not in night.model_dump_json()
    assert night.train.account.missing == 0
    rejected(texts, reason, words, on_critical="reject")
    with pytest.raises(ActionRefused, match="cannot be read together with the other partitions"):
        release(texts.services, texts.pipeline(), str(BAD), (), actor="ann", reason="fine")


def test_a_file_that_is_not_whole_still_rejects_the_night(texts):
    """A file that ends in the middle of a line was not landed whole: nobody knows what is missing."""
    texts.land(BAD, csv(BAD)[:-20])
    night = texts.night()
    assert (night.outcome, night.ended.reason) == ("rejected", "corrupt")


def test_the_same_night_again_tells_the_same(world):
    """What validate has found is recorded by run key: warnings do not vanish when the night is run again."""
    world.suite = {**SUITE, "expectations": [{**SUITE["expectations"][0], "severity": "warning"}]}
    world.land(BAD, x=broken(3))
    first, again = world.night(), world.night()
    assert len(first.validate_.warnings) == 1
    assert again.validate_ == first.validate_
    for key in world.store.keys("runs/"):
        world.store.lose(key)
    assert world.night().validate_.warnings == first.validate_.warnings


def test_another_validator_asks_again(world):
    """A result is known again only from the same suite and the same code that checked it."""
    world.night()
    before = world.validator.batches
    world.validator.version = "another"
    world.land(NEXT)
    assert world.night(NEXT).validate_.checked == 8
    assert world.validator.batches == before + 8


def test_an_object_that_is_good_here_and_in_a_bad_partition_there_is_used_here(world):
    """What is left out is a partition, not its bytes wherever they lie."""
    good = world.store.get(world.uri(NIGHT))
    world.store.put(f"s3://lake/rows/dt={BAD}/copy.parquet", good)
    world.land(BAD, x=np.full(ROWS, 99.0))
    night = world.night(pipeline=strict(world, max_quarantined=0.3, window=QUIET))
    assert [(q.partition, q.rows) for q in night.validate_.quarantined] == [(str(BAD), 2 * ROWS)]
    assert night.train.account.held_out == 3 * ROWS


def test_a_record_of_a_night_before_rows_were_quarantined_can_still_be_read():
    """What was written by earlier releases is read with nothing quarantined row by row."""
    old = {"checked": 1, "cached": 7, "quarantined": [], "warnings": [], "docs": None, "rows": 9}
    assert ValidateResult.model_validate(old).quarantined_rows == ()


# Giving back


def give_back(world, *wanted, partition=str(BAD), reason="a real heat wave"):
    """Release by the pipeline's operator."""
    return release(world.services, world.pipeline(), partition, wanted, actor="ann", reason=reason)


def test_what_is_held_is_listed_and_shown_without_values(world):
    """A list says what and why; rows are named by file and number, and their values only told on demand."""
    world.land(BAD, x=broken(3, 7))
    world.night()
    _, (mine,) = held(world.services, world.pipeline())
    assert (mine.partition, mine.landed, mine.left_out, mine.whole, mine.given_back) == (str(BAD), ROWS, 2, False, 0)
    _, found = rows(world.services, world.pipeline(), str(BAD))
    assert [(row.row, row.reasons, row.values) for row in found] == [(4, (REASON,), None), (8, (REASON,), None)]
    _, found = rows(world.services, world.pipeline(), str(BAD), values=True)
    assert found[0].values["x"] == 99.0
    with pytest.raises(ActionRefused, match=f"'2024-01-01' is in quarantine in the newest snapshot; there is: {BAD}"):
        rows(world.services, world.pipeline(), "2024-01-01")


def test_a_rejected_night_shows_what_it_was_rejected_for(world):
    """Too much in quarantine ends the night; what it was can be listed all the same, and given back."""
    world.land(BAD, x=broken(*range(20)))
    assert world.night(pipeline=strict(world, max_quarantined=0.1)).ended.reason == "quarantined"
    _, (mine,) = held(world.services, world.pipeline())
    assert (mine.partition, mine.whole) == (str(BAD), True)
    give_back(world)
    night = world.night(pipeline=strict(world, max_quarantined=0.1))
    assert (night.outcome, night.validate_.quarantined, night.train.account.landed) == ("promoted", (), DAYS * ROWS)


def test_rows_that_are_given_back_are_read_by_the_next_night_as_a_new_snapshot(world):
    """A release changes the next night's snapshot and is named in its difference; the night that has read already stays as it was."""
    world.land(BAD, x=broken(3, 7))
    first = world.night()
    made = give_back(world, "8")
    assert (made.actor, made.reason, made.reasons) == ("ann", "a real heat wave", (REASON,))
    assert held(world.services, world.pipeline())[1][0].given_back == 1
    assert world.night().snapshot.digest == first.snapshot.digest
    again = world.night(repin=True)
    assert again.snapshot.digest != first.snapshot.digest
    assert again.run_key != first.run_key
    assert again.snapshot.difference.released == (str(BAD),)
    assert again.snapshot.difference.corrected == ()
    assert (again.validate_.quarantined_rows[0].rows, again.train.account.quarantined_rows) == (1, 1)
    world.land(NEXT)
    night = world.night(NEXT)
    assert night.snapshot.difference.released == ()
    assert night.train.account.quarantined_rows == 1
    give_back(world)
    assert world.night(NEXT, repin=True).validate_.quarantined_rows == ()


def test_a_partition_that_is_given_back_is_used_whole(world):
    """A partition that is too odd for the suite can be vouched for by a person."""
    world.land(BAD, x=np.full(ROWS, 99.0))
    assert world.night().train.account.quarantined_partitions == ROWS
    give_back(world)
    night = world.night(repin=True)
    assert night.validate_.quarantined == ()
    assert night.train.account.fitted + night.train.account.watched + night.train.account.held_out == DAYS * ROWS


def test_an_extra_column_can_be_vouched_for_and_is_not_read(world):
    """A partition with a column too many is used without it once somebody says so; it is validated then."""
    world.land(BAD, more=np.zeros(ROWS), x=broken(3))
    assert [q.partition for q in world.night().validate_.quarantined] == [str(BAD)]
    give_back(world)
    night = world.night(repin=True)
    assert (night.validate_.quarantined, night.validate_.quarantined_rows[0].rows) == ((), 1)
    world.land(NEXT)
    assert world.night(NEXT).validate_.quarantined == ()


def test_a_release_holds_for_what_was_known_only(world):
    """Other bytes, and other reasons, were not released."""
    world.land(BAD, x=broken(3))
    world.night()
    give_back(world)
    assert world.night(repin=True).validate_.quarantined_rows == ()
    before = world.suite
    world.suite = {
        **SUITE,
        "expectations": [{**SUITE["expectations"][0], "kwargs": {"column": "x", "min_value": -8, "max_value": 9}}],
    }
    assert world.night(repin=True).validate_.quarantined_rows[0].rows == 1
    world.suite = before
    world.land(BAD, x=broken(3, 4))
    assert world.night(repin=True).validate_.quarantined_rows[0].rows == 2


def test_a_row_that_is_not_held_cannot_be_given_back(world):
    """Nothing is decided about rows that are in use, or without a reason; of two files the one must be named."""
    world.store.put(f"s3://lake/rows/dt={BAD}/b.parquet", partition(NEXT, x=broken(3, day=NEXT)))
    world.land(BAD, x=broken(3))
    world.night(pipeline=strict(world, window=QUIET))
    for wanted, why in (
        ("9", "no row '9'"),
        ("4", r"stands in 2 files of .* name the file: b.parquet:4"),
        ("x", "no row"),
    ):
        with pytest.raises(ActionRefused, match=why):
            give_back(world, wanted)
    with pytest.raises(ActionRefused, match="say why"):
        give_back(world, reason=" ")
    assert world.store.keys("releases/") == []
    assert give_back(world, "b.parquet:4").rows[0][1] == 4


# The account


TASKS = {
    "binary": ("x > 0", ("log_loss", "auc")),
    "multiclass": ("CASE WHEN x < -0.5 THEN 'low' WHEN x < 0.5 THEN 'mid' ELSE 'high' END", ("log_loss", "accuracy")),
    "regression": ("x", ("squared_error", "rmse")),
}


@pytest.mark.parametrize("task", TASKS)
@settings(
    max_examples=4, deadline=None, phases=(Phase.generate,), suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_every_landed_row_is_accounted_for(tmp_path_factory, task, data):
    """Whatever breaks, has no label, is dated elsewhere or is dropped by the query: the parts add up to what has landed."""
    folder = tmp_path_factory.mktemp("account")
    target, (_, metric) = TASKS[task]
    spec = yaml.safe_load(SPEC)
    spec["target"] = {"task": task, "sql": f"CASE WHEN z < 2 THEN {target} END"}
    bound = {"at_least": 0.0} if metric in {"auc", "accuracy"} else {"at_most": 1e9}
    spec["gates"] = [{"kind": "bound", "metric": metric, **bound}]
    spec["source"]["unknown_at_prediction"] = []
    spec["validation"] |= {"max_quarantined": 1.0, "max_quarantined_rows": 1.0, "window": QUIET}
    spec["window"] |= {"min_partitions": 1, "min_rows": 1}
    if data.draw(st.booleans()):
        spec["source"]["partition"] = {"by": "column", "column": "at"}
    world = World(folder, yaml.safe_dump(spec))
    landed = 0
    for i in range(DAYS):
        day = FIRST + timedelta(days=i)
        count = data.draw(st.integers(30, 50))
        x = np.random.default_rng(i).normal(size=count)
        x[data.draw(st.lists(st.integers(0, count - 1), max_size=8 if i in {0, 1, 6} else 2))] = (
            99.0  # others are needed
        )
        shift = data.draw(st.sampled_from([0, 0, -60]))
        at = pa.array([day + timedelta(days=shift if n % 3 == 0 else 0) for n in range(count)])
        world.store.put(f"s3://lake/rows/dt={day}/part.parquet", partition(day, count, x=x, at=at))
        landed += count
    pipeline = world.pipeline().model_copy(
        update={"sql": "SELECT row_id, x, z, place FROM rows WHERE place <> 'south' OR z > 0"}
    )
    night = world.until("evaluate", pipeline=pipeline)
    assert not night.ended, night.reasons
    account = night.train.account
    assert (account.landed, account.missing) == (landed, 0)
    assert account.quarantined_rows == sum(q.rows for q in night.validate_.quarantined_rows)
    assert account.fitted == night.train.rows


def test_a_night_whose_rows_do_not_add_up_logs_no_model(world):
    """A manifest that says more rows than its files have is no reason to train on what is there."""
    night = world.until("train")
    key = f"snapshots/small/{night.snapshot.digest}.json"
    told = world.store.get(key).decode()
    world.store.put(key, told.replace('"rows": 40', '"rows": 41', 1).encode())
    with pytest.raises(RowsUnaccounted, match="1 rows are missing; the account is 321 landed"):
        world.step("train", night)
    assert world.registry.runs == {}
