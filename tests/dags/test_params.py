"""The trigger form refuses in words what a night cannot do."""

from __future__ import annotations

from datetime import UTC, date, datetime
from types import SimpleNamespace

import pytest

from ratchet.home import load_pipeline


@pytest.fixture(scope="module")
def params():
    from ratchet.orchestration import params

    return params


@pytest.fixture
def check(params):
    """Check one value as Airflow does."""
    return lambda name, value: params.form()[name].resolve(value)


@pytest.fixture
def pipeline(home):
    """A pipeline that two users may override."""
    spec = home / "pipelines" / "flight_delay.yaml"
    spec.write_text(spec.read_text() + "\noverride: {allowed: [uma, vic]}\n")
    return load_pipeline("flight_delay", home)


def run(kind="manual", user="alice", end=None):
    return SimpleNamespace(
        run_type=kind,
        triggering_user_name=user,
        data_interval_end=end,
        run_after=datetime(2013, 6, 12, 3, tzinfo=UTC),
    )


def given(params, **values):
    return {**{name: param.value for name, param in params.form().items()}, **values}


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("cutoff", "2013-13-01", "is not a 'date'"),
        ("cutoff", "20130601", "is not a 'date'"),
        ("cutoff", "yesterday", "is not a 'date'"),
        ("cutoff", 20130601, "is not of type"),
        ("dry_run", "perhaps", "is not of type 'boolean'"),
        ("repin", 1, "is not of type 'boolean'"),
        ("reason", 3, "is not of type"),
        ("override", "yes", "is not of type 'boolean'"),
        ("overrides", [], "is not of type 'object'"),
        ("overrides", {"windw.days": 4}, "does not match '^(evaluation[.]"),
        ("overrides", {"window.days": "many"}, "'many' is not of type 'integer'"),
        ("overrides", {"window.days": 1}, "1 is less than the minimum of 3"),
        (
            "overrides",
            {"validation.on_critical": "ignore"},
            "is not one of ['quarantine', 'quarantine_partition', 'reject']",
        ),
        ("overrides", {"gates": []}, "'gates' does not match"),
        ("overrides", {"evaluation.baselines": ["average"]}, "'evaluation.baselines' does not match"),
        ("overrides", {"approval.when": []}, "does not match"),
        ("overrides", {"target.sql": "read_text('/etc/hostname')"}, "does not match"),
        ("overrides", {"source.uri": "s3://elsewhere/"}, "does not match"),
    ],
)
def test_form_refuses(check, name, value, words):
    """A bad value is refused before the run is made, and the words say what would do."""
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError) as caught:
        check(name, value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cutoff", None),
        ("cutoff", "2013-06-01"),
        ("overrides", {"training.params.max_depth": 4, "window.days": 30, "window.max_age_days": None}),
        ("overrides", {"evaluation.slices": ["origin"], "training.threads": 1}),
    ],
)
def test_form_accepts(check, name, value):
    """A good value passes as it is."""
    assert check(name, value) == value


def test_every_default_is_allowed(params, check):
    """A run that asks for nothing is a run."""
    for name, param in params.form().items():
        check(name, param.value)


def test_cutoff_asked_for_wins(params):
    """The form's cutoff goes before the interval's."""
    end = datetime(2013, 6, 11, 3, tzinfo=UTC)
    asked = params.request("p", given(params, cutoff="2013-05-01"), {}, run(end=end))
    assert asked.cutoff == date(2013, 5, 1)


def test_cutoff_is_the_last_whole_day_of_the_interval(params):
    """A scheduled run or a backfill sees all that landed before its interval's end, be it a day or a week."""
    end = datetime(2013, 6, 11, 3, tzinfo=UTC)
    assert params.request("p", given(params), None, run(end=end)).cutoff == date(2013, 6, 10)


def test_cutoff_of_a_run_without_an_interval(params):
    """A manual run is about the day before."""
    assert params.request("p", given(params), {}, run()).cutoff == date(2013, 6, 11)


def test_unknown_key_is_refused_with_a_hint(params):
    """Airflow lets an unknown key of the configuration pass; the first task does not."""
    with pytest.raises(params.ParamUnknown, match=r"'cutof' is not a parameter.*did you mean 'cutoff'"):
        params.request("p", given(params), {"cutof": "2013-06-01"}, run())


def test_cutoff_that_is_no_date_is_refused(params):
    """What got past the form, such as a backfill's configuration, is refused in words."""
    with pytest.raises(params.CutoffInvalid, match="'June' is not a date such as"):
        params.request("p", given(params, cutoff="June"), {}, run())


@pytest.mark.parametrize(
    ("kind", "user", "actor"),
    [
        ("manual", "alice", "alice"),
        ("manual", None, "manual"),
        ("scheduled", None, "scheduled"),
        ("backfill", "alice", "backfill (alice)"),
    ],
)
def test_actor_says_who_asked(params, kind, user, actor):
    """The ledger will name a person, or what started the run."""
    assert params.request("p", given(params), {}, run(kind, user)).actor == actor


@pytest.mark.parametrize(
    ("user", "kind", "reason", "words"),
    [
        ("uma", "manual", "  ", "needs a reason"),
        ("alice", "manual", "I know better", "alice may not override.*uma, vic"),
        ("uma", "backfill", "I know better", r"backfill \(uma\) may not.*in person"),
        (None, "scheduled", "I know better", "scheduled may not"),
    ],
)
def test_override_takes_a_person_and_a_reason(params, pipeline, user, kind, reason, words):
    """Only those whom the spec allows may override, in person, and they say why."""
    asked = params.request("p", given(params, override=True, reason=reason), {}, run(kind, user))
    with pytest.raises(params.OverrideRefused, match=words):
        params.check_override(asked, pipeline)


def test_override_by_whom_the_spec_allows(params, pipeline):
    """It is in the night's request."""
    asked = params.request("p", given(params, override=True, reason="I know better"), {}, run(user="uma"))
    params.check_override(asked, pipeline)
    assert asked.override


def test_no_override_needs_no_right(params, pipeline):
    """Whoever triggers a plain run is asked for nothing more."""
    params.check_override(params.request("p", given(params), {}, run()), pipeline)
