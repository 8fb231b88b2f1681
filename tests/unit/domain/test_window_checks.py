"""Days that differ from those before them."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.data_rules import WindowChecks
from ratchet.domain.findings import Finding
from ratchet.domain.summaries import Labels, Part, PartSummary
from ratchet.domain.window_checks import each_once, findings
from ratchet.domain.windows import DAY, windows

FIRST = date(2024, 1, 1)  # a Monday
DAYS = windows(FIRST + 49 * DAY, days=50, holdout_days=7, stop_days=5, label_delay_days=0)
NEWEST = DAYS.whole.last
NO_SAMPLES = {"duplicates": {"action": "off"}, "overlap": {"action": "off"}}


def checks(**given_):
    """Return the default checks, apart from some."""
    return WindowChecks.model_validate({**NO_SAMPLES, **given_})


def day(at, rows=1000, missing=0, hot=250, unlabelled=0, **labels):
    """Summarise a day: of its rows so many lack column x, and so many are hot."""
    cold = rows - unlabelled - hot
    given_ = labels or {"classes": {name: n for name, n in (("false", cold), ("true", hot)) if n}}
    return Part(
        f"lake/dt={at}/part.parquet",
        PartSummary(day=at, rows=rows, missing={"x": missing, "y": 0}, labels=Labels(unlabelled=unlabelled, **given_)),
    )


def window(newest, usual=day):
    """Return a window of usual days and a newest one."""
    return [*(usual(at) for at in DAYS.whole.days()[:-1]), newest]


def found(parts, fresh=frozenset({NEWEST}), **given_):
    """Return what the checks find."""
    return findings(parts, DAYS, fresh, checks(**given_))


def test_a_window_of_equal_days_shows_nothing():
    """Days that are all alike are in order."""
    assert found(window(day(NEWEST))) == ()


@pytest.mark.parametrize("rows", [400, 2500])
def test_a_day_with_far_fewer_or_more_rows_is_found(rows):
    """A volume beyond the factor is found, with the numbers and the way out."""
    (finding,) = found(window(day(NEWEST, rows=rows, hot=rows // 4)))
    assert (finding.kind, finding.action, finding.value) == ("volume", "warn", rows)
    assert f"{NEWEST} has {rows} rows, 2.5 times {'fewer' if rows < 1000 else 'more'} than usual" in finding.words
    assert "the last 7 Mondays had 1000 to 1000" in finding.words
    assert "known_days" in finding.words


def weekly(at, rows=None):
    """Land 1,000 rows on weekdays and 20 at the weekend."""
    rows = rows or (20 if at.weekday() > 4 else 1000)
    return day(at, rows=rows, hot=rows // 4)


def test_volume_is_held_against_the_same_weekday():
    """A quiet Sunday is no news, a Monday as quiet as a Sunday is."""
    newest = next(at for at in reversed(DAYS.whole.days()) if at.weekday() == 6)
    days = [at for at in DAYS.whole.days() if at <= newest]
    assert found([weekly(at) for at in days], frozenset({newest})) == ()
    (finding,) = found(window(weekly(NEWEST, 20), weekly))
    assert "50.0 times fewer than usual" in finding.words


def test_a_volume_that_always_scatters_is_left_in_peace():
    """Where days differ by a factor of ten all the time, a factor of three is no news."""
    random = np.random.default_rng(1)

    def wild(at):
        return day(at, rows=int(1000 * np.exp(random.normal(0, 1))), hot=1)

    assert [f for f in found(window(day(NEWEST, rows=3000, hot=1), wild)) if f.kind == "volume"] == []


def test_a_few_rows_a_day_scatter_by_chance():
    """Three rows after eight a day are within what chance does."""
    few = found(window(day(NEWEST, rows=3, hot=1), lambda at: day(at, rows=8, hot=2)), labels={"action": "off"})
    assert few == ()


def test_a_jump_of_a_null_rate_is_found():
    """A column of which suddenly a third is missing is named with its share and its past; others are not."""
    (finding,) = found(window(day(NEWEST, missing=330), lambda at: day(at, missing=10 + at.day)))
    assert (finding.kind, finding.action, finding.subject) == ("nulls", "warn", "column x")
    assert "x: 33%, the 43 days before 1% to 4%" in finding.words


def test_a_null_rate_that_vanishes_is_found_too():
    """Values where there never were any are as suspicious as none where there were some."""
    (finding,) = found(window(day(NEWEST, missing=0), lambda at: day(at, missing=800)))
    assert finding.words.startswith(f"missing values on {NEWEST}: x: 0%, the 43 days before 80%")


def test_a_null_rate_that_always_scatters_is_left_in_peace():
    """A gauge that is silent between a third of the day and all day may speak all day; when it falls silent, it is found."""

    def gauge(at):
        return day(at, missing=300 + 100 * (at.toordinal() % 7))

    assert found(window(day(NEWEST, missing=20), gauge)) == ()
    (finding,) = found(window(day(NEWEST, missing=1000), gauge))
    assert "x: 100%, the 43 days before 30% to 90%" in finding.words


def test_a_share_that_swings_is_held_against_its_range():
    """A base rate between 4 % and 79 % may be anywhere in between, and a little outside."""
    for hot in (40, 790, 900):
        assert found(window(day(NEWEST, hot=hot), lambda at: day(at, hot=40 + 50 * (at.toordinal() % 16)))) == ()


@pytest.mark.parametrize(("hot", "words"), [(1000, "class true has 100.0%"), (600, "has 60.0%"), (0, "has no row")])
def test_a_jump_of_the_label_balance_holds(hot, words):
    """Labels that are all of one class, or of one far more often than ever, hold the promotion back."""
    (finding,) = found(window(day(NEWEST, hot=hot), lambda at: day(at, hot=230 + at.day)))
    assert (finding.kind, finding.action) == ("labels", "hold")
    assert words in finding.words


def test_a_rare_class_that_comes_five_times_as_often_is_found():
    """A jump of a few percent is one, where the share never moved."""
    (finding,) = found(window(day(NEWEST, hot=100), lambda at: day(at, hot=15 + at.day % 5)))
    assert "class true has 10.0%" in finding.words
    assert found(window(day(NEWEST, hot=25), lambda at: day(at, hot=15 + at.day % 5))) == ()


def test_a_class_that_nobody_knew_is_found():
    """A class that never came before, and now is common, is a jump."""
    newest = day(NEWEST, classes={"true": 250, "false": 550, "maybe": 200})
    (finding,) = found(window(newest))
    assert finding.subject in {"class false", "class maybe"}


def test_the_mean_of_a_regression_is_held_against_its_range():
    """A mean in another unit is found; one a little higher than ever is not."""
    random = np.random.default_rng(2)

    def load(at):
        return day(at, total=1000 * random.normal(5, 0.5))

    assert found(window(day(NEWEST, total=6500), load)) == ()
    (finding,) = found(window(day(NEWEST, total=5_000_000), load))
    assert finding.words.startswith(f"the label's mean on {NEWEST} is 5000; on the 43 days before it was")


def test_unlabelled_rows_are_no_class():
    """Half of the labels missing is not a change of their balance."""
    assert found(window(day(NEWEST, unlabelled=500, hot=125))) == ()


def test_a_day_is_held_as_long_as_it_is_in_the_holdout_and_warned_of_once():
    """What holds does so each night on which models are judged by the day; a warning comes when the day does."""
    odd = DAYS.holdout.first + DAY
    parts = [day(at, **({"rows": 300, "hot": 300} if at == odd else {})) for at in DAYS.whole.days()]
    assert {f.kind for f in found(parts)} == {"labels"}
    assert {f.kind for f in found(parts, frozenset({odd, NEWEST}))} == {"labels", "volume"}


def test_a_bad_day_does_not_excuse_the_next():
    """Days of the hold-out are not held against each other, so a second flood is found as the first was."""
    parts = [day(at, hot=900 if at > NEWEST - 2 * DAY else 250) for at in DAYS.whole.days()]
    (finding,) = found(parts)
    assert f"of {NEWEST - DAY};" in finding.words
    assert finding.words.endswith(f"It is likewise on {NEWEST}")


def test_what_many_days_show_alike_is_told_once():
    """A class that comes for the first time, and stays, is one finding that names its days; a day that shows the contrary is another."""
    late = DAYS.holdout.first
    parts = [day(at, hot=900 if late <= at < NEWEST else 0 if at == NEWEST else 250) for at in DAYS.whole.days()]
    flood, drought = found(parts)
    assert (flood.kind, flood.subject, flood.value) == ("labels", "class true", 0.9)
    assert flood.words.startswith("class true has 90.0% of the labelled rows of ")
    assert str(NEWEST - DAY) in flood.words
    assert str(NEWEST) not in flood.words
    assert f"of {NEWEST};" in drought.words
    assert "likewise" not in drought.words


def test_of_very_many_days_the_first_and_the_last_are_named():
    """A window in which a column is filled from some day on names no hundred days."""
    one = Finding(kind="nulls", action="warn", subject="column x", words="missing", value=0.0, limit=0.9)
    days = [NEWEST + i * DAY for i in range(13)]
    (told,) = each_once([(at, one) for at in days])
    assert told.words == f"missing. It is likewise on 12 later days, {days[1]} … {days[-1]}"
    assert each_once([]) == []


def test_a_corrected_day_of_training_is_compared_too():
    """A partition that landed anew is looked at wherever it is in the window."""
    odd = DAYS.fit.first + 3 * DAY
    parts = [day(at, hot=900 if at == odd else 250) for at in DAYS.whole.days()]
    assert found(parts) == ()
    (finding,) = found(parts, frozenset({odd, NEWEST}))
    assert str(odd) in finding.words


def test_a_known_day_is_left_in_peace():
    """A person who has looked at a day can say that it is right."""
    assert found(window(day(NEWEST, rows=300, hot=0)), known_days=[NEWEST]) == ()


def test_nothing_is_compared_with_a_short_history():
    """With fewer days than ``min_history`` nobody knows what is usual."""
    parts = window(day(NEWEST, rows=30, hot=0))
    assert found(parts, min_history=44) == ()
    assert len(found(parts, min_history=43)) == 1


@pytest.mark.parametrize("kind", ["volume", "nulls", "labels"])
def test_a_check_that_is_off_finds_nothing(kind):
    """Each check can be turned off alone."""
    parts = window(day(NEWEST, rows=100, missing=90, hot=100))
    everything = {f.kind for f in found(parts)}
    assert kind in everything
    assert {f.kind for f in found(parts, **{kind: {"action": "off"}})} == everything - {kind}


def test_times_from_the_future_are_found_where_there_never_were_any():
    """A column that never looked ahead and now does is named; one that plans ahead every day is not."""

    def dated(at, seen, due=5):
        return Part("x", day(at).summary.model_copy(update={"ahead": {"seen": seen, "due": due}}))

    (finding,) = found(window(dated(NEWEST, 3), lambda at: dated(at, 0)))
    assert (finding.kind, finding.action, finding.subject, finding.value) == ("time", "warn", "column seen", 3)
    assert f"times of {NEWEST} lie more than a day after it: seen in 3 rows; on the 43 days before" in finding.words
    assert found(window(dated(NEWEST, 0, 900), lambda at: dated(at, 0))) == ()
    assert found(window(dated(NEWEST, 3), lambda at: dated(at, 0)), future={"action": "off"}) == ()


def test_the_files_of_a_day_count_together():
    """Two files of a day are one day."""
    halves = [day(at, rows=500, hot=125) for at in DAYS.whole.days() for _ in range(2)]
    assert found([p for p in halves if p.summary.day < NEWEST] + [day(NEWEST)]) == ()


@given(st.integers(0, 2**32 - 1), st.floats(0.02, 0.98), st.floats(0.0, 0.9))
def test_quiet_days_are_quiet(seed, share, missing):
    """Days drawn alike, whatever their rate, hold nobody back."""
    random = np.random.default_rng(seed)

    def drawn(at):
        rows = int(random.poisson(800))
        return day(at, rows=rows, hot=int(random.binomial(rows, share)), missing=int(random.binomial(rows, missing)))

    assert found([drawn(at) for at in DAYS.whole.days()], frozenset(DAYS.holdout.days())) == ()


def test_findings_do_not_depend_on_the_order_of_the_files():
    """The same files in another order show the same."""
    parts = window(day(NEWEST, rows=300, missing=200, hot=300))
    assert found(parts) == found(parts[::-1])
    assert len(found(parts)) == 3


def test_days_out_of_the_window_are_not_asked_for():
    """A hold-out without any day before it shows nothing."""
    assert found([day(NEWEST + timedelta(0), rows=1, hot=1)]) == ()
