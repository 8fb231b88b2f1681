"""What the Airflow UI tells of a pipeline and its tasks: generated from the spec, so that it cannot lag behind."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ratchet.domain.night import StepName
    from ratchet.domain.promotion_rules import ApprovalWhen
    from ratchet.spec import PipelineSpec

TASKS: dict[StepName, str] = {
    "snapshot": "Lists the window's partitions up to the cutoff and pins the exact object versions that this night reads.",
    "validate": "Runs the suite on every partition that has not passed it yet, and quarantines what breaks a critical expectation.",
    "score": "Lets the champion and the last challengers score the newest labelled days, before anything learns from them.",
    "tune": "Searches for better parameters where that is due, and says with which ones the challenger is fitted. Empty where the spec asks for no tuning.",
    "train": "Builds the features, fits the challenger and logs it to MLflow.",
    "evaluate": "Compares challenger and champion on the hold-out, which neither has seen.",
    "register": "Registers one model version per run key, loads it in a fresh process, and checks that it gives the same predictions.",
    "gate": "Turns the evidence into a verdict: PASS, FAIL or UNDECIDED. Anything but a PASS, or an UNDECIDED that is overridden, skips approve and promote.",
    "approve": "On the nights on which the spec asks for a person, one of those whom it names decides; no answer means no. It waits without a process.",
    "promote": "Checks verdict and approval again, as they lie in the object store; appends to the ledger by compare-and-swap, moves the alias, and tells the DAGs that wait for a new champion. Skipped where it changed nothing.",
    "report": "Writes the night's page, its record and the run's note, however the night came out.",
}

WAIT = """\
Waits, without a process, until the partitions that this night reads are complete as the spec says (marker, manifest or quiet), and until
the newest day has landed; at the latest until `wait_hours` after the night was due. It rejects nothing: that is up to `snapshot`.
"""

READING = """\
### Reading the grid
| what you see | what it means |
|---|---|
| all green | **promoted**: a new champion serves |
| `wait` purple | data is awaited; the run's note says which, and until when |
| `approve` orange | a person is asked: open it, tab *Required Action* |
| `approve` green, `promote` pink | a person **refused**, or nothing changed: another run was faster, the pipeline is frozen, this version serves already |
| `approve` and `promote` pink | **refused** or **undecided**: the champion stays; the run's note says why |
| pink from one task on, the run green | **skipped**: too little data to decide on |
| one task red, the run red | **rejected** (the data must not be trained on) or **failed**; the run's note says which and why |

`report` runs in every case and holds the link to the night's page.
"""


SEGMENTS = """
With segments: `segments` lists them when the gate has spoken, `segment` is a task for each (*Mapped Tasks* names them), and `segments_end` says who serves
each. A red `segment` blocks no other; `segments_end` and the run are red then, although the model of all rows may have been promoted.
"""


def dag_doc(spec: PipelineSpec) -> str:
    """Return the DAG's description in Markdown."""
    window, who = spec.window, f"{spec.owner.name} <{spec.owner.email}>" if spec.owner.email else spec.owner.name
    gates = "\n".join(f"- {gate.name}" for gate in spec.gates)
    approval = _approval(spec)
    delay = f", counting only rows that are {window.label_delay_days} days old" if window.label_delay_days else ""
    return f"""\
{spec.description}

**Owner** {who} · **schedule** {f"`{spec.schedule}` UTC" if spec.schedule else "by hand only"} · **model** `{spec.name}` in MLflow

### A night
A `{spec.target.task}` model is fitted on `{spec.source.uri}` over {window.days} days up to the cutoff{delay}; the last {window.holdout_days} days
are held out, and the {window.stop_days} days before them stop the fit. Suite `{spec.validation.suite}`, features `{spec.features}`.
{_tuning(spec)}
### Gates
All of these must pass before the challenger becomes champion. {approval}

{gates}

{READING}{SEGMENTS if spec.segments else ""}
[Nights, champions and reports](/ratchet/) · [roll back](/dags/rollback) · [freeze](/dags/freeze) · [thaw](/dags/thaw)
"""


def _tuning(spec: PipelineSpec) -> str:
    """Say when parameters are searched."""
    asked = spec.training.tuning
    if asked is None:
        return ""
    when = [f"every {asked.every_days} days"] * (asked.every_days is not None) + [
        "when the data has moved"
    ] * asked.on_drift
    names = ", ".join(f"`{name}`" for name in asked.space)
    return (
        f"Parameters ({names}) are searched {' and '.join(when) or 'once'}, in at most {asked.trials} trials and {asked.minutes:g} minutes, "
        "on days before the hold-out; in between the champion's are used.\n"
    )


_WHEN: dict[ApprovalWhen, str] = {
    "always": "before every promotion",
    "bootstrap": "before the first champion",
    "override": "where an UNDECIDED is overridden",
    "small_gain": "where the gain is small",
    "slice_worse": "where a slice got worse",
}


def _approval(spec: PipelineSpec) -> str:
    """Say who stands between a PASS and the promotion, and who may override."""
    asked, override = spec.approval, ", ".join(spec.override.allowed) or "nobody"
    said = f"An UNDECIDED may be overridden, with a reason, by {override}."
    if not asked.when:
        return f"Nobody is asked. {said}"
    who = ", ".join(asked.approvers) or "anybody who may act on this DAG"
    whenever = " and ".join(_WHEN[when] for when in asked.when)
    return f"{whenever[0].upper()}{whenever[1:]}, {who} must approve within {asked.timeout_hours:g} hours. {said}"
