"""How a step ended becomes a state that the grid shows, and the night reaches the report in every case."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException, DownstreamTasksSkipped
from stand_in import Ti, make_night

from ratchet.domain.alerts import Alert
from ratchet.domain.drifted import DriftResult
from ratchet.domain.night import STEPS, Ended, ReportResult, ScoreResult, TuneResult
from ratchet.errors import ServiceError

HOME = Path(__file__).resolve().parents[3] / "include"


@pytest.fixture(scope="module")
def tasks():
    from ratchet.orchestration import tasks

    return tasks


@pytest.fixture
def step(tasks, monkeypatch, services):
    """Return a task of a step that ends as ``outcome`` says: a night, or an error to raise."""
    monkeypatch.setenv("RATCHET_HOME", str(HOME))
    monkeypatch.setattr(tasks.connections, "environment", dict)
    monkeypatch.setattr("ratchet.wiring.services", lambda: services)

    def make(name, outcome, kind=None, **kwargs):
        def run_step(step, night, _pipeline, _services, _say):
            if isinstance(outcome, BaseException):
                raise outcome
            return outcome(step, night) if callable(outcome) else outcome

        monkeypatch.setattr("ratchet.steps.night.run_step", run_step)
        return (kind or tasks.StepTask)(step=name, pipeline="flight_delay", **kwargs)

    return make


def ended(outcome, step="validate"):
    return make_night().model_copy(
        update={"ended": Ended(outcome=outcome, step=step, reason="corrupt", detail="dt=2013-06-01: truncated")}
    )


def test_step_hands_the_night_on(step, context):
    """A step that went well leaves the night to the next task."""
    ti = Ti(snapshot=make_night())
    step("validate", lambda _step, night: night.model_copy(update={"run_key": "k"})).execute(context(ti))
    assert ti.pushed.run_key == "k"


def test_first_step_begins_the_night(step, context):
    """The first task takes the request from the run, and says who asked."""
    ti = Ti()
    step("snapshot", lambda _step, night: night).execute(context(ti, reason="again", overrides={"window.days": 60}))
    request = ti.pushed.request
    assert (request.actor, request.reason, str(request.cutoff)) == ("alice", "again", "2013-06-01")
    assert request.overrides == {"window.days": 60}


def test_rejection_fails_in_words(step, context):
    """Rejected data fails the task without retry, and the night tells the report why."""
    ti = Ti(snapshot=make_night())
    with pytest.raises(AirflowFailException, match=r"^REJECTED, corrupt: dt=2013-06-01: truncated$"):
        step("validate", ended("rejected")).execute(context(ti))
    assert ti.pushed.outcome == "rejected"


def test_skipped_night_skips_the_task(step, context):
    """Too little data skips the task; the tasks after it are skipped by their trigger rule."""
    ti = Ti(snapshot=make_night())
    with pytest.raises(AirflowSkipException):
        step("validate", ended("skipped")).execute(context(ti))
    assert ti.pushed.outcome == "skipped"


def test_fault_that_can_pass_is_left_to_the_retries(step, context):
    """A service's fault is raised as it is, and the night carries it in case it was the last try."""
    ti = Ti(snapshot=make_night())
    with pytest.raises(ServiceError):
        step("validate", ServiceError("object store", "get x", "503")).execute(context(ti))
    assert ti.pushed.ended.reason == "ServiceError"


def test_bug_fails_at_once_and_keeps_its_cause(step, context):
    """An unforeseen error is not retried; its traceback stays in the log."""
    ti = Ti(snapshot=make_night())
    with pytest.raises(AirflowFailException, match="KeyError: 'oops'") as caught:
        step("validate", KeyError("oops")).execute(context(ti))
    assert isinstance(caught.value.__cause__, KeyError)
    assert (ti.pushed.ended.outcome, ti.pushed.ended.step) == ("failed", "validate")


def test_bad_override_fails_in_the_specs_words(step, context):
    """What the form could not know is refused by the first task, in words and without a traceback of ours."""
    ti = Ti()
    with pytest.raises(AirflowFailException, match="leave nothing of 10 days to fit on") as caught:
        step("snapshot", AssertionError).execute(context(ti, overrides={"window.days": 10}))
    assert caught.value.__cause__ is None
    assert ti.pushed.ended.reason == "SpecInvalid"


def test_nothing_handed_on_says_what_to_do(step, context):
    """A task that was marked as done by hand has left nothing; the next one says so."""
    with pytest.raises(AirflowFailException, match="clear the whole run"):
        step("train", AssertionError).execute(context(Ti()))


def test_task_marked_as_done_by_hand_changes_nothing(step, context):
    """A rejected night goes no further although somebody has marked the red task green."""
    with pytest.raises(AirflowFailException, match="the night ended in validate"):
        step("score", AssertionError).execute(context(Ti(validate=ended("rejected"))))


@pytest.mark.parametrize("verdict", ["FAIL", "UNDECIDED"])
def test_gate_skips_the_promotion(step, context, verdict):
    """The gate itself is green; what it did not let through is skipped without a process."""
    ti = Ti(register=make_night())
    with pytest.raises(DownstreamTasksSkipped) as caught:
        step("gate", make_night(verdict)).execute(context(ti))
    assert caught.value.tasks == ["approve", "promote"]
    assert ti.pushed.gate


def test_gate_lets_a_pass_through(step, context):
    """A PASS is a plain success."""
    step("gate", make_night("PASS")).execute(context(Ti(register=make_night())))


@pytest.mark.parametrize(("verdict", "skips"), [("UNDECIDED", False), ("FAIL", True)])
def test_override_goes_past_an_undecided_gate_only(step, context, verdict, skips):
    """Where an override is asked for, what the evidence does not decide goes on; what failed does not."""
    task, ti = step("gate", make_night(verdict, override=True)), Ti(register=make_night(override=True))
    if skips:
        with pytest.raises(DownstreamTasksSkipped):
            task.execute(context(ti))
    else:
        task.execute(context(ti))


def test_override_by_somebody_else_fails_at_once(step, context):
    """Who may not override is told before anything is computed, and what to do."""
    ti = Ti()
    with pytest.raises(AirflowFailException, match=r"alice may not override.*names nobody"):
        step("snapshot", AssertionError).execute(context(ti, override=True, reason="I know better"))
    assert ti.pushed.ended.reason == "OverrideRefused"


def test_promotion_is_announced(step, context, keep):
    """A new champion is told with what a consumer needs to load exactly that one."""
    from ratchet.orchestration import champion_asset

    asset, judged = champion_asset("flight_delay"), make_night("PASS")
    given = keep(context(Ti(gate=judged)), gate=judged)
    step("promote", make_night("PASS", promoted=True), champion=asset, outlets=[asset]).execute(given)
    assert given["outlet_events"][asset].extra == {
        "pipeline": "flight_delay",
        "version": 7,
        "run_key": "key",
        "cutoff": "2013-06-01",
        "artifact_digest": "a" * 64,
        "entry": 1,
    }


def test_superseded_promotion_is_skipped(step, context, keep):
    """Where somebody else was faster nothing is announced, and the task says why."""
    given = keep(context(Ti(gate=make_night("PASS"))), gate=make_night("PASS"))
    with pytest.raises(AirflowSkipException, match="superseded"):
        step("promote", make_night("PASS", promoted=False)).execute(given)
    assert not given["outlet_events"]


def before(night):
    """Return a promotion whose entry was there already."""
    return night.model_copy(update={"promote": night.promote.model_copy(update={"appended": False})})


def test_promotion_is_announced_once(step, context, keep):
    """A run that is cleared when its version serves already announces nobody anew."""
    ti = Ti(gate=make_night("PASS"))
    ti.try_number, ti.max_tries = 2, 3  # as Airflow sets them when a task is cleared
    given = keep(context(ti), gate=make_night("PASS"))
    with pytest.raises(AirflowSkipException, match="nothing has changed"):
        step("promote", before(make_night("PASS", promoted=True)), retries=2).execute(given)
    assert not given["outlet_events"]


def test_promotion_of_an_attempt_that_died_is_announced(step, context, keep):
    """What an attempt appended before it was killed is announced by the next one."""
    from ratchet.orchestration import champion_asset

    asset, ti = champion_asset("flight_delay"), Ti(gate=make_night("PASS"))
    ti.try_number, ti.max_tries = 2, 2
    given = keep(context(ti), gate=make_night("PASS"))
    step("promote", before(make_night("PASS", promoted=True)), retries=2, champion=asset, outlets=[asset]).execute(
        given
    )
    assert given["outlet_events"][asset].extra["entry"] == 1


@pytest.mark.parametrize(("max_tries", "times"), [(2, 1), (3, 0)])
def test_champion_that_the_watch_sent_back_is_announced_once(step, context, max_tries, times):
    """Who waits for a new champion hears of an automatic rollback, and not again when the task is cleared."""
    from ratchet.orchestration.events import ANY_CHAMPION

    night, told = make_night(), []
    scored = ScoreResult(
        champion=night.register_.version,
        reign=3,
        versions=(),
        rows=9,
        rolled_back="version 7 serves again (ledger entry 3)",
    )
    ti = Ti(validate=night)
    ti.max_tries = max_tries
    given = context(ti)
    given["outlet_events"] = {ANY_CHAMPION: SimpleNamespace(add=lambda asset, extra: told.append((asset.name, extra)))}
    step("score", night.model_copy(update={"score": scored}), retries=2).execute(given)
    assert [(name, extra["version"], extra["entry"]) for name, extra in told] == [
        ("flight_delay.champion", 7, 3)
    ] * times


@pytest.mark.parametrize(
    ("retrain", "alerted", "max_tries", "times"),
    [(True, True, 2, 1), (True, False, 2, 0), (False, True, 2, 0), (True, True, 3, 0)],
)
def test_drift_asks_for_a_retrain_once(step, context, retrain, alerted, max_tries, times):
    """Where the spec says so, who waits for drift hears of each episode once, and not again when the task is cleared."""
    from ratchet.orchestration.events import ANY_DRIFT

    night, told = make_night("PASS"), []
    drift = DriftResult(state="drift", words="drift", day="2024-03-02", since="2024-03-01", champion=7)
    alerts = (Alert(kind="drift", words="drift"),) if alerted else ()
    version = night.register_.version
    scored = ScoreResult(champion=version, reign=3, versions=(), rows=9, drift=drift, alerts=alerts)
    ti = Ti(validate=night)
    ti.max_tries = max_tries
    given = context(ti)
    given["outlet_events"] = {ANY_DRIFT: SimpleNamespace(add=lambda asset, extra: told.append((asset.name, extra)))}
    task = step("score", night.model_copy(update={"score": scored}), retries=2, retrain=retrain)
    task.execute(given)
    assert [(name, extra["day"], extra["since"]) for name, extra in told] == [
        ("flight_delay.drift", "2024-03-02", "2024-03-01")
    ] * times


@pytest.fixture
def promote(step):
    """Return promote, and what it is asked to run with which answer."""
    ran = []

    def note(name, night):
        ran.append((name, night.approve and night.approve.approved))
        return make_night("PASS", promoted=True) if name == "promote" else night

    return step("promote", note), ran


def test_answer_counts_that_lies_in_the_store(promote, context, keep):
    """What a person said about this verdict goes to promote."""
    judged, asked = make_night("PASS"), make_night("PASS", approved=True)
    task, ran = promote
    task.execute(keep(context(Ti(gate=judged, approve=asked)), gate=judged, approve=asked))
    assert ran == [("promote", True)]


@pytest.mark.parametrize("where", ["an edited XCom", "nowhere: approve was marked as done by hand"])
def test_answer_that_no_person_gave_does_not_count(promote, context, keep, where):
    """Only what approve left in the object store is an answer: else promote asks the spec anew, and is told that nobody was asked."""
    judged, forged = make_night("PASS"), {"approve": make_night("PASS", approved=True)} if "XCom" in where else {}
    task, ran = promote
    task.execute(keep(context(Ti(gate=judged, **forged)), gate=judged))
    assert ran == [("approve", None), ("promote", None)]


def test_refusal_stays_a_refusal(promote, context, keep):
    """Where a person has said no, neither a cleared promote nor an approve marked as done by hand changes it."""
    judged, refused = make_night("PASS"), make_night("PASS", approved=False)
    task, ran = promote
    task.execute(
        keep(context(Ti(gate=judged, approve=make_night("PASS", approved=True))), gate=judged, approve=refused)
    )
    assert ran == [("promote", False)]


def test_approval_of_another_verdict_does_not_count(promote, context, keep):
    """What a person approved in an earlier attempt is not what the gate has judged since."""
    judged, old = make_night("PASS"), make_night("UNDECIDED", approved=True)
    task, ran = promote
    task.execute(keep(context(Ti(gate=judged, approve=old)), gate=judged, approve=old))
    assert ran == [("approve", None), ("promote", None)]


def test_verdict_that_no_gate_gave_does_not_count(promote, context, keep):
    """An edited XCom of the gate promotes nobody: the verdict is read from the object store."""
    task, ran = promote
    task.execute(keep(context(Ti(gate=make_night("PASS"))), gate=make_night("FAIL")))
    with pytest.raises(AirflowFailException, match="clear the whole run"):
        task.execute(context(Ti(gate=make_night("PASS").model_copy(update={"run_key": "another"}))))
    assert ran == [("approve", None), ("promote", None)]


def test_what_was_judged_must_be_what_was_asked_for(promote, context, keep):
    """A night that another person seems to have asked for is not promoted in their name."""
    judged = make_night("UNDECIDED", actor="uma", override=True)
    task, _ = promote
    with pytest.raises(AirflowFailException, match="not what this run asks for"):
        task.execute(keep(context(Ti(gate=judged)), gate=judged))


def test_gate_keeps_its_verdict(step, context, services):
    """Where promote looks for it, also when it is no PASS."""
    given = context(Ti(register=make_night()))
    with pytest.raises(DownstreamTasksSkipped):
        step("gate", make_night("FAIL")).execute(given)
    assert [found.rpartition("/")[0] for found in services.store.contents()] == ["s3://ratchet/runs/flight_delay/key"]


def test_links_know_their_address_once_the_step_ran(step, context):
    """The register task's button leads to the model version."""
    task = step("register", make_night())
    [link] = task.operator_extra_links
    assert link.get_link(task, ti_key=None) == ""
    task.execute(context(Ti(evaluate=make_night())))
    assert (link.name, link.get_link(task, ti_key=None)) == ("Model version", "http://mlflow/v7")


def states(**found):
    """Return the state of every task before the report; those not named succeeded."""
    return {task: found.get(task, "success") for task in STEPS[:-1]}


def rest(step, state):
    """Return ``state`` for all tasks after a step."""
    return dict.fromkeys(STEPS[STEPS.index(step) + 1 : -1], state)


def test_report_takes_the_newest_night(tasks, context):
    """After a promotion it is promote's."""
    ti = Ti(states(), gate=make_night("PASS"), promote=make_night("PASS", promoted=True))
    assert tasks.so_far(context(ti)).promote.promoted


def test_report_takes_the_night_of_the_task_that_stopped_it(tasks, context):
    """A rejection is told by the task that failed."""
    found = states(validate="failed", **rest("validate", "upstream_failed"))
    ti = Ti(found, snapshot=make_night(), validate=ended("rejected"))
    assert tasks.so_far(context(ti)).outcome == "rejected"


def test_report_explains_a_task_that_was_killed(tasks, context):
    """A task that left nothing is named; what the tasks before it found is kept."""
    found = states(train="failed", **rest("train", "upstream_failed"))
    night = tasks.so_far(context(Ti(found, score=make_night())))
    assert (night.ended.outcome, night.ended.step) == ("failed", "train")
    assert "killed" in night.ended.detail


def test_report_is_not_fooled_by_an_earlier_attempt(tasks, context):
    """A run that once promoted, was cleared, and is refused now, is a refusal."""
    found = states(approve="skipped", promote="skipped")
    ti = Ti(found, gate=make_night("FAIL"), promote=make_night("PASS", promoted=True), approve=make_night("PASS"))
    assert tasks.so_far(context(ti)).outcome == "refused"


def test_report_knows_of_a_refusal_by_a_person(tasks, context):
    """A no at approve counts, whatever promote had left in an earlier attempt."""
    found = states(promote="skipped")
    ti = Ti(
        found,
        gate=make_night("PASS"),
        approve=make_night("PASS", approved=False),
        promote=make_night("PASS", promoted=True),
    )
    night = tasks.so_far(context(ti))
    assert night.outcome == "refused"
    assert night.reasons == ("approval: not tonight",)


def test_report_keeps_the_reason_of_a_night_that_was_pushed_on(tasks, context):
    """Where a red task was marked green by hand, the report still tells of the rejection."""
    found = states(score="failed", **rest("score", "upstream_failed"))
    assert tasks.so_far(context(Ti(found, validate=ended("rejected")))).outcome == "rejected"


def test_report_of_a_superseded_promotion(tasks, context):
    """Promote was skipped by itself, and says why."""
    ti = Ti(states(promote="skipped"), gate=make_night("PASS"), promote=make_night("PASS", promoted=False))
    assert tasks.so_far(context(ti)).reasons == ("superseded",)


@pytest.fixture
def notes(tasks, monkeypatch):
    """The notes that were written."""
    found = []
    monkeypatch.setattr(tasks.notes, "write", lambda _dag, _run, note, _say: found.append(note))
    return found


def test_report_writes_the_note(tasks, step, context, notes):
    """The run's note is the headline of the night."""
    found = states(validate="failed", **rest("validate", "upstream_failed"))
    ti = Ti(found, snapshot=make_night(), validate=ended("rejected"))
    page = ReportResult(page="reports/flight_delay/2013-06-01/a.html", record="r")
    step("report", lambda _s, night: night.model_copy(update={"report": page}), tasks.ReportTask).execute(context(ti))
    assert len(notes) == 1
    assert notes[0].startswith("REJECTED")


def test_note_is_written_although_the_report_is_not(tasks, step, context, notes):
    """When the object store is down, the note still tells the night, and the report fails visibly."""
    ti = Ti(states(), promote=make_night("PASS", promoted=True))
    with pytest.raises(ServiceError):
        step("report", ServiceError("object store", "put x", "503"), tasks.ReportTask).execute(context(ti))
    assert notes[0].startswith("PROMOTED")


def test_report_of_a_run_that_could_not_be_read(tasks, step, context, notes):
    """A run with an unknown key of its configuration is reported in words as well."""
    found = states(snapshot="failed", **rest("snapshot", "upstream_failed"))
    step("report", lambda _s, night: night, tasks.ReportTask).execute(context(Ti(found), conf={"cutof": "2013-06-01"}))
    assert "did you mean 'cutoff'" in notes[0]


@pytest.mark.parametrize(("tuned", "expected"), [(False, ["tune", "train"]), (True, ["train"])])
def test_train_tunes_where_its_own_task_is_an_empty_one(step, context, tuned, expected):
    """Where tune is an empty task train takes the night of score, and does first what this run alone may ask of tune."""
    ran = []

    def note(name, night):
        ran.append(name)
        return night

    night = make_night().model_copy(
        update={"tune": TuneResult(source="spec", params={}, why="the spec's") if tuned else None}
    )
    if tuned:
        step("train", note).execute(context(Ti(tune=night)))
    else:
        step("train", note, after="score").execute(context(Ti(score=night)))
    assert ran == expected


def test_train_is_not_run_where_tuning_has_ended_the_night(step, context):
    """What ends the night in tune is told by the task that ran it."""
    ran = []

    def note(name, night):
        ran.append(name)
        return night.model_copy(update={"ended": ended("rejected", "tune").ended})

    with pytest.raises(AirflowFailException, match="REJECTED"):
        step("train", note, after="score").execute(context(Ti(score=make_night())))
    assert ran == ["tune"]


def test_search_has_a_button(step, context):
    """The tune task's leads to the tracked run of tonight's search, and nowhere where none was made."""
    tuned = TuneResult(source="search", params={}, why="due", mlflow_url="http://mlflow/search")
    task = step("tune", make_night().model_copy(update={"tune": tuned}))
    [link] = task.operator_extra_links
    task.execute(context(Ti(score=make_night())))
    assert (link.name, link.get_link(task, ti_key=None)) == ("MLflow search", "http://mlflow/search")
    kept = step("tune", make_night().model_copy(update={"tune": tuned.model_copy(update={"mlflow_url": None})}))
    kept.execute(context(Ti(score=make_night())))
    assert kept.operator_extra_links[0].get_link(kept, ti_key=None) == ""
