"""The days of a night: they follow from the cutoff, and no day is used for two things."""

from __future__ import annotations

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.windows import Span, windows

sizes = st.tuples(st.integers(1, 60), st.integers(1, 30), st.integers(1, 30), st.integers(0, 40))
cutoffs = st.dates(date(1990, 1, 1), date(2100, 1, 1))


@given(cutoff=cutoffs, sizes=sizes)
def test_the_window_is_cut_without_gap_or_overlap(cutoff, sizes):
    """Fit, stop and hold-out follow each other and make up the whole window, which ends when labels are due."""
    fit, stop, holdout, delay = sizes
    cut = windows(cutoff, days=fit + stop + holdout, holdout_days=holdout, stop_days=stop, label_delay_days=delay)
    assert cut.fit.days() + cut.stop.days() + cut.holdout.days() == cut.whole.days()
    assert [len(s.days()) for s in (cut.fit, cut.stop, cut.holdout)] == [fit, stop, holdout]
    assert cut.newest == cutoff - timedelta(days=delay)
    assert all(day in cut.whole for day in cut.holdout.days())


@given(cutoff=cutoffs, sizes=sizes)
def test_the_next_night_moves_every_day_by_one(cutoff, sizes):
    """One night later, every span is the same span one day later."""
    fit, stop, holdout, delay = sizes
    tonight, tomorrow = (
        windows(day, days=fit + stop + holdout, holdout_days=holdout, stop_days=stop, label_delay_days=delay)
        for day in (cutoff, cutoff + timedelta(days=1))
    )
    for name in ("whole", "fit", "stop", "holdout"):
        assert getattr(tomorrow, name).days()[:-1] == getattr(tonight, name).days()[1:]


def test_a_span_knows_its_ends():
    """Both ends belong to a span, the days beside it do not, and it reads well."""
    span = Span(first=date(2024, 2, 28), last=date(2024, 3, 1))
    assert len(span.days()) == 3
    assert date(2024, 2, 29) in span
    assert date(2024, 2, 27) not in span
    assert date(2024, 3, 2) not in span
    assert str(span) == "2024-02-28 … 2024-03-01"
