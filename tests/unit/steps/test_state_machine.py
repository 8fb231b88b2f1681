"""Whatever people, nights, crashes and careless hands do to one pipeline, in whatever order: what must hold holds after each step."""

from __future__ import annotations

import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from small_world import SPEC, SQL, SUITE

from fakes import Killed, MemoryRegistry, MemoryStore
from ratchet.adapters.ledger import ObjectLedger
from ratchet.domain import layout, ledger
from ratchet.domain.checks import Check, Outcome
from ratchet.domain.ledger import TURNS, Champion, LedgerEntry, champion_of, reign
from ratchet.domain.models import ModelFiles, ModelSchema
from ratchet.domain.night import (
    ApproveResult,
    GateResult,
    Night,
    NightRequest,
    RegisterResult,
    ScoreResult,
    TrainResult,
)
from ratchet.domain.verdict import SMOKE_TEST, Verdict
from ratchet.errors import ActionRefused, LedgerBroken, RatchetError, ServiceError, ServiceRefused
from ratchet.home import parse_spec
from ratchet.spec import Pipeline
from ratchet.steps import adopt, fitness, freeze, promote, prune, rollback, turns
from ratchet.steps.champion import champion_version, reconcile
from ratchet.steps.context import Context, Services

if TYPE_CHECKING:
    from collections.abc import Callable

    from ratchet.domain.models import ModelVersion

NAME = "small"
START = date(2024, 3, 1)
ALLOWED, APPROVER = "ada", "ann"
NIGHTLY = {"bootstrap", "promote", "refresh", "override"}


class StrictRegistry(MemoryRegistry):
    """A registry that points no alias at a version that there is not, as MLflow does."""

    def set_alias(self, pipeline: str, alias: str, version: int) -> None:
        """See ``ports.Registry.set_alias``."""
        if version not in {v.version for v in self.versions(pipeline)}:
            raise ServiceRefused("MLflow", f"pointing alias {alias} at version {version}", "there is no such version")
        super().set_alias(pipeline, alias, version)


class LostReply(ServiceError):
    """The write before was done, and nobody was told."""


class Faults:
    """Stands before every write: counts it, and dies, loses the reply or lets another operation come first where it was told to."""

    def __init__(self) -> None:
        self.plan: dict[int, Callable[[], None]] = {}
        self.met = 0

    def __call__(self, _operation: str, _where: str) -> None:
        """Meet a write."""
        self.met += 1
        act = self.plan.pop(self.met, None)
        if act:
            act()


class Clock(datetime):
    """The time of the machine: days pass only when it says so."""

    passed = timedelta()

    @classmethod
    def now(cls, tz: Any = None) -> datetime:
        """Return the machine's time."""
        return datetime(2024, 6, 1, 12, tzinfo=tz) + cls.passed


ANSWERS = {
    "yes": ApproveResult(required=True, approved=True, who=APPROVER),
    "no": ApproveResult(required=True, approved=False, who=APPROVER, reason="no"),
    "yes again": ApproveResult(required=True, approved=True, who=APPROVER),
    "mallory": ApproveResult(required=True, approved=True, who="mallory"),
    "nobody": ApproveResult(required=False, approved=True),
    "unasked": ApproveResult(required=True, approved=False),
}
CHOICE = st.integers(0, 10**6)
OPERATION = st.sampled_from(
    ["promote", "promote", "promote", "back", "back to", "freeze", "thaw", "reconcile", "adopt", "move", "prune"]
)


def pick(choice: int, among: Any) -> Any:
    """Return one of some, by a number drawn before it was known how many there would be."""
    return among[choice % len(among)]


class Decisions(RuleBasedStateMachine):
    """One pipeline; people, nights and accidents."""

    plant: Callable[[pytest.MonkeyPatch], None] = staticmethod(lambda _: None)  # a bug, where one is to be found

    def __init__(self) -> None:
        super().__init__()
        self._folder = tempfile.TemporaryDirectory(prefix="ratchet-")
        folder = Path(self._folder.name)
        self.store, self.registry = MemoryStore(folder / "objects"), StrictRegistry(folder / "models")
        self.faults = Faults()
        self.hand = False  # whether somebody moved the alias in the middle of what is done
        self.store.tripwire = self.registry.tripwire = self.faults
        unused: Any = None
        self.services = Services(
            store=self.store,
            engine=unused,
            validator=unused,
            trainer=unused,
            registry=self.registry,
            ledger=ObjectLedger(self.store),
            reporter=unused,
            cache=folder,
        )
        self.nights: list[Night] = []
        self.seen: tuple[LedgerEntry, ...] = ()
        self.bytes: dict[str, bytes] = {}
        self.told: list[tuple[int, str]] = []  # entries, by number and hash or run key, that somebody was told of
        self.day = 0
        Clock.passed = timedelta()
        self._patch = pytest.MonkeyPatch()
        for module in (promote, freeze, turns, adopt):
            self._patch.setattr(module, "datetime", Clock)
        self._patch.setattr(fitness, "tried", self._tried)
        self.plant(self._patch)

    def teardown(self) -> None:
        """Leave nothing behind."""
        self._patch.undo()
        self._folder.cleanup()

    @initialize(when=st.sampled_from([(), ("always",), ("override",)]), champions=st.integers(0, 3))
    def declare(self, when: tuple[str, ...], champions: int) -> None:
        """Declare a pipeline, and let some nights go by on which nothing happens."""
        spec = yaml.safe_load(SPEC) | {
            "approval": {"when": list(when), "approvers": [APPROVER]},
            "override": {"allowed": [ALLOWED]},
            "retention": {"versions": 2, "days": 0},
            "league": {"size": 0},
        }
        self.pipeline = Pipeline(spec=parse_spec(yaml.safe_dump(spec), "small.yaml", {}), suite=SUITE, sql=SQL)
        for _ in range(champions):
            self._judge(days=1)
            self._do(self._promotion(self.nights[-1]))

    # what nights do

    @rule(
        days=st.sampled_from([1, 1, 1, 0, 0, 2, -1, -3]),
        verdict=st.sampled_from(["PASS", "PASS", "PASS", "UNDECIDED", "FAIL", "SMOKE"]),
        asked=st.sampled_from(
            [
                ("ada", True, "it is needed"),
                ("ada", True, "it is needed"),
                ("ada", False, ""),
                ("mallory", True, "so"),
                ("ada", True, ""),
            ]
        ),
        answer=st.sampled_from(["yes", "yes", "yes", *sorted(ANSWERS)]),
        older=st.none() | CHOICE,
        then=st.sampled_from(["promote", "wait", "wait", "delete"]),
    )
    def judge(
        self, days: int, verdict: str, asked: tuple[str, bool, str], answer: str, older: int | None, then: str
    ) -> None:
        """Judge a night against the champion of now; whether it is promoted, and when, is another matter."""
        self._judge(days=days, verdict=verdict, asked=asked, answer=answer, older=older)
        if then == "delete":
            self.meddle(0, "delete")
        if then != "wait":
            self._do(self._promotion(self.nights[-1]))

    @rule(
        verdict=st.sampled_from(["UNDECIDED", "UNDECIDED", "FAIL", "SMOKE"]),
        actor=st.sampled_from([ALLOWED, ALLOWED, "mallory"]),
        answer=st.sampled_from(["yes", "nobody"]),
    )
    def override(self, verdict: str, actor: str, answer: str) -> None:
        """Ask to promote a night that did not pass."""
        self._judge(days=1, verdict=verdict, asked=(actor, True, "it is needed"), answer=answer)
        self._do(self._promotion(self.nights[-1]))

    @rule(days=st.integers(0, 1), later=st.integers(0, 1), other=OPERATION, which=CHOICE, at=st.integers(1, 3))
    def race(self, days: int, later: int, other: str, which: int, at: int) -> None:
        """Judge two nights against the same champion, and let the second, or a person, come in between the first's writes."""
        self._judge(days=days)
        self._judge(days=later)
        second = self._promotion(self.nights[-1]) if other == "promote" else self._work(other, which)
        self._do(self._promotion(self.nights[-2]), overtaken=second, at=at)

    def _judge(
        self,
        *,
        days: int,
        verdict: str = "PASS",
        asked: tuple[str, bool, str] = ("ada", False, ""),
        answer: str = "yes",
        older: int | None = None,
    ) -> None:
        self.day = max(self.day + days, 0)
        cutoff, run_key = START + timedelta(days=self.day), f"{len(self.nights) + 1:064x}"
        version = self._made(run_key, cutoff)
        entries = self.services.ledger.entries(NAME)
        serves, outcome = reign(entries), Outcome("FAIL" if verdict == "SMOKE" else verdict)
        tried = Outcome.FAIL if verdict == "SMOKE" else Outcome.PASS
        checks = (
            Check(name="evidence", kind="evidence", outcome=outcome, reason=""),
            Check(name=SMOKE_TEST, kind=SMOKE_TEST, outcome=tried, reason=""),
        )
        shadowed = older is not None and serves is not None and outcome is Outcome.PASS
        actor, override, reason = asked
        self.nights.append(
            Night(
                request=NightRequest(pipeline=NAME, cutoff=cutoff, actor=actor, override=override, reason=reason),
                run_key=run_key,
                score=ScoreResult(
                    champion=champion_version(entries), reign=serves.seq if serves else 0, versions=(), rows=0
                ),
                register_=RegisterResult(version=version, url=None, smoke=None),
                gate=GateResult(
                    verdict=Verdict(outcome=outcome, bootstrap=serves is None, checks=checks),
                    candidate=pick(older or 0, self.registry.versions(NAME)) if shadowed else version,
                    action="promote" if serves else "bootstrap",
                ),
                approve=ANSWERS[answer],
            )
        )
        gate = self.nights[-1].gate
        assert gate
        self.store.put(layout.step(NAME, run_key, "gate.json", dry_run=False), gate.model_dump_json().encode())

    def _made(self, run_key: str, cutoff: date) -> ModelVersion:
        """Train and register a version, which has scored the newest day."""
        schema = ModelSchema(task="binary", features=(), best_iteration=0)
        files = ModelFiles(booster=run_key.encode(), features="", schema_=schema)
        run = self.registry.start_run(NAME, run_key, run_key, {})
        self.registry.log_model(run, files)
        facts = {"run_key": run_key, "artifact_digest": files.digest, "recipe": "r", "recipe_spec": "s"}
        facts |= {"cutoff": str(cutoff), "seen_through": str(cutoff)}
        version = self.registry.register(NAME, facts, run)
        trained = TrainResult(
            mlflow_run_id=run,
            mlflow_url="",
            artifact_digest=files.digest,
            rows=1,
            rounds=1,
            importance={},
            seen_through=cutoff,
            unlabelled=0,
            dropped=0,
        )
        self.store.put(layout.step(NAME, run_key, "train.json", dry_run=False), trained.model_dump_json().encode())
        self.store.put(layout.scored(NAME, cutoff, version.version), b"{}")
        return version

    @precondition(lambda self: self.nights)
    @rule(
        what=OPERATION,
        which=CHOICE,
        accident=st.sampled_from(["none", "dies", "dies", "loses"]),
        at=st.integers(1, 4),
        again=st.booleans(),
    )
    def act(self, what: str, which: int, accident: str, at: int, *, again: bool) -> None:
        """Do something; before its n-th write the process may die, or the reply to the one before it may be lost."""
        dies, loses = (at if accident == name else None for name in ("dies", "loses"))
        self._do(self._work(what, which), dies=dies, loses=loses, again=again)

    @precondition(lambda self: self.nights)
    @rule(
        first=OPERATION.filter(lambda what: what != "prune"),  # what it deletes has lain there for months
        second=OPERATION,
        which=CHOICE,
        other=CHOICE,
        at=st.integers(1, 3),
    )
    def overtake(self, first: str, second: str, which: int, other: int, at: int) -> None:
        """Let one operation come in before the n-th write of another, which has read the ledger already."""
        self._do(self._work(first, which), overtaken=self._work(second, other), at=at)

    @rule(days=st.integers(1, 3))
    def days_pass(self, days: int) -> None:
        """Let freezes end."""
        Clock.passed += timedelta(days=days)

    # what careless hands do

    @precondition(lambda self: self.registry.versions(NAME))
    @rule(which=CHOICE, how=st.sampled_from(["move", "delete"]))
    def meddle(self, which: int, how: str) -> None:
        """Move the alias behind our back, or delete a version that does not serve, more often the newest than others."""
        if how == "move":
            self._move(which)
            return
        serving = champion_of(self.services.ledger.entries(NAME))
        version = self._version(which // 2 if which % 2 else 0)
        if serving is None or version != serving.version:
            self.registry.delete_version(NAME, version)
            event("version deleted")

    @precondition(lambda self: self.seen)
    @rule(which=CHOICE, how=st.sampled_from(["edit", "cut"]), what=OPERATION)
    def forge(self, which: int, how: str, what: str) -> None:
        """Edit an entry, or cut off the end: nothing is done on such a ledger, until it is restored."""
        turns.read(self.services, NAME)
        entry = self.seen[-1] if how == "cut" else pick(which, self.seen)
        key = layout.ledger_entry(NAME, entry.seq)
        if how == "cut":
            self.store.delete(key)
        else:
            self.store.put(key, self.bytes[key].replace(b'"actor": "', b'"actor": "not '))
        there, work = self.store.contents(layout.ledger(NAME)), self._work(what, which)
        if what == "move":
            work()
        elif what != "promote" or self._goes(self._night(which)):
            with pytest.raises(LedgerBroken):
                work()
        assert self.store.contents(layout.ledger(NAME)) == there
        self.store.put(key, self.bytes[key])
        event(f"forged: {how}")

    # how it is done

    def _do(
        self,
        work: Callable[[], str],
        *,
        dies: int | None = None,
        loses: int | None = None,
        overtaken: Callable[[], str] | None = None,
        at: int = 0,
        again: bool = False,
    ) -> None:
        before = len(self.services.ledger.entries(NAME))
        ended = self._once(work, dies=dies, loses=loses, overtaken=overtaken, at=at)
        if not ended and again:
            self._once(work)
        limit = 1 + (overtaken is not None)
        assert len(self.services.ledger.entries(NAME)) - before <= limit, "more entries than operations"

    def _once(
        self,
        work: Callable[[], str],
        *,
        dies: int | None = None,
        loses: int | None = None,
        overtaken: Callable[[], str] | None = None,
        at: int = 0,
    ) -> bool:
        """Do it, with what happens to it, and say whether it came to its end."""
        self.faults.plan, self.faults.met, self.hand = {}, 0, False
        if dies:
            self.faults.plan[dies] = self._die
        if loses:
            self.faults.plan[loses + 1] = self._lose
        if overtaken:
            self.faults.plan[at] = lambda: self._aside(overtaken)
        try:
            said = work()
        except Killed:
            event(f"{work.__name__} killed")
            return False
        except LostReply:
            event(f"{work.__name__} lost a reply")
            return False
        finally:
            self.faults.plan = {}
        event(f"{work.__name__}: {said}" + (" (overtaken)" if overtaken else ""))
        if self.hand or said in {"refused", "not let through", "pruned", "nothing to prune"}:
            return True  # a hand that moves the alias after it has followed is found by the next night
        champion = champion_of(self.services.ledger.entries(NAME))
        alias = self.registry.alias(NAME, "champion")
        assert champion is None or alias == champion.version, f"the alias does not follow after {said}"
        return True

    def _die(self) -> None:
        raise Killed

    def _lose(self) -> None:
        raise LostReply("MLflow", "the write before", "the reply was lost")

    def _aside(self, work: Callable[[], str]) -> None:
        plan, self.faults.plan = self.faults.plan, {}
        event(f"{work.__name__} came in: {work()}")
        self.faults.plan = plan

    def _work(self, what: str, which: int) -> Callable[[], str]:
        """Return an operation that is ready to be done; a number chooses what there is to choose."""
        days, reason = pick(which, [None, None, 0, 1, 2]), pick(which, "abc")
        until = None if days is None else Clock.now(UTC).date() + timedelta(days=days)
        here, to = self.pipeline, which % (len(self.nights) + 2)
        return {
            "promote": self._promotion(self._night(which)),
            "back": self._person("roll back", rollback.roll_back, here, to=None, reason=reason),
            "back to": self._person("roll back to", rollback.roll_back, here, to=to, reason=reason),
            "freeze": self._person("freeze", freeze.freeze, NAME, until=until, reason=reason),
            "thaw": self._person("thaw", freeze.thaw, NAME, reason=reason),
            "reconcile": self._reconcile,
            "adopt": self._person("adopt", adopt.adopt, here, reason=reason),
            "move": lambda: self._move(which),
            "prune": self._prune,
        }[what]

    def _night(self, which: int) -> Night:
        """Return a night; more often one that may promote somebody, and has not slept long."""
        able = [night for night in self.nights if self._goes(night)][-3:]
        return pick(which // 4, able) if which % 4 and able else pick(which // 4, self.nights)

    def _version(self, which: int) -> int:
        return int(pick(which, self.registry.versions(NAME)).version)

    def _goes(self, night: Night) -> bool:
        """Say whether a night may promote as far as verdict and people are concerned."""
        assert night.gate
        assert night.approve
        request, outcome, when = night.request, night.gate.verdict.outcome, self.pipeline.spec.approval.when
        overrides = outcome is Outcome.UNDECIDED and request.override
        through = outcome is Outcome.PASS or (overrides and request.actor == ALLOWED and bool(request.reason))
        needs = "always" in when or ("override" in when and overrides)
        return through and night.approve.approved and (night.approve.who == APPROVER or not needs)

    def _promotion(self, night: Night) -> Callable[[], str]:
        def promoting() -> str:
            result = promote.promote(Context(pipeline=self.pipeline, night=night, services=self.services))
            if result.promoted:
                assert result.entry
                assert night.run_key
                self.told.append((result.entry, night.run_key))
                return "promoted" if result.appended else "done"
            word = result.detail.partition(":")[0]
            return word if word in {"superseded", "frozen", "withdrawn"} else "not let through"

        return promoting

    def _person(self, doing: str, work: Callable[..., LedgerEntry], *given: Any, **how: Any) -> Callable[[], str]:
        """Return what a person does, who is told of the entry."""

        def acting() -> str:
            try:
                entry = work(self.services, *given, actor="ada", **how)
            except ActionRefused:
                return "refused"
            self.told.append((entry.seq, entry.hash))
            return "done"

        acting.__name__ = doing
        return acting

    def _reconcile(self) -> str:
        turns.read(self.services, NAME)
        return "set right" if reconcile(self.services, NAME) else "was right"

    def _prune(self) -> str:
        found = prune.prune(self.services, self.pipeline)
        gone = set(found.versions)
        served = {e.champion.version for e in self.services.ledger.entries(NAME) if e.champion}
        assert not gone & served, "a champion, past or present, was pruned"
        return "pruned" if gone else "nothing to prune"

    def _move(self, which: int) -> str:
        """Move the alias by hand."""
        if self.registry.versions(NAME):
            self.registry.set_alias(NAME, "champion", self._version(which))
        self.hand = True
        return "moved"

    def _tried(self, _services: Any, _pipeline: Any, version: Champion, _night: Any = None) -> tuple[bool, str]:
        """Stand in for the trial of a version, which would need a model: it can serve when it is registered."""
        return version.version in {v.version for v in self.registry.versions(NAME)}, "tried"

    # what must hold

    @invariant()
    def nothing_is_ever_rewritten(self) -> None:
        """What was appended stays as it was, byte for byte, the chain verifies, and the anchors hold."""
        there = {
            uri.removeprefix("s3://ratchet/"): data for uri, data in self.store.contents(layout.ledger(NAME)).items()
        }
        assert self.bytes.items() <= there.items()
        entries = turns.look(Services(**{**vars(self.services), "ledger": ObjectLedger(self.store)}), NAME)
        new = entries[len(self.seen) :]
        assert entries[: len(self.seen)] == self.seen
        for entry in new:
            self._right(entries[: entry.seq - 1], entry)
        self.seen, self.bytes = entries, there
        for seq, known_by in self.told:
            assert known_by in {entries[seq - 1].hash, entries[seq - 1].night}, "somebody was told of another entry"

    def _right(self, before: tuple[LedgerEntry, ...], entry: LedgerEntry) -> None:
        """Check one entry against everything that came before it."""
        event(f"entry: {entry.action}")
        last = before[-1] if before else None
        turned = [e for e in before if e.action in {*NIGHTLY, "rollback", "adopt"}]
        assert last is None or entry.judged_through >= last.judged_through
        if entry.action in {"freeze", "thaw"}:
            assert entry.champion == (last.champion if last else None)
            return
        assert entry.action in TURNS
        assert entry.champion, "a turn names whom it promotes"
        if entry.action == "rollback":
            assert entry.champion in [e.champion for e in turned], "it never served"
            assert entry.champion != turned[-1].champion
            return
        if entry.action == "adopt":
            assert not self._ice(before, entry), "adopted although it was frozen"
            assert not turned or entry.champion != turned[-1].champion
            made = next(n for n in self.nights if n.run_key == entry.champion.run_key)
            assert made.gate
            assert made.gate.verdict.outcome in {Outcome.PASS, Outcome.UNDECIDED}, "adopted what has failed"
            assert made.gate.verdict.outcome is Outcome.PASS or entry.actor == ALLOWED, (
                "adopted by somebody who may not"
            )
            return
        night = next(n for n in self.nights if n.run_key == entry.night)
        assert night.gate
        assert night.score
        assert night.register_
        assert self._goes(night), "promoted without a verdict or a person that let it through"
        chosen = night.register_.version if entry.action == "override" else night.gate.candidate
        assert chosen
        assert entry.champion.version == chosen.version
        assert entry.champion.artifact_digest == chosen.artifact_digest
        assert (entry.action == "override") == (night.gate.verdict.outcome is Outcome.UNDECIDED)
        assert entry.night not in {e.night for e in before}, "a run was promoted twice"
        assert night.score.reign == (turned[-1].seq if turned else 0), "it was judged against another champion"
        assert all(e.judged_through <= night.request.cutoff for e in before), "an older night displaced a newer one"
        assert not self._ice(before, entry), "promoted although it was frozen"

    def _ice(self, before: tuple[LedgerEntry, ...], entry: LedgerEntry) -> bool:
        """Say whether an entry was appended while a freeze held."""
        held = [e for e in before if e.action in {"freeze", "thaw"}][-1:]
        return any(e.action == "freeze" and (e.until is None or str(e.until) >= entry.at[:10]) for e in held)

    @invariant()
    def there_is_one_champion_and_it_can_be_found(self) -> None:
        """Who serves by the ledger is registered."""
        champion = champion_of(self.seen)
        assert champion is None or champion.version in {v.version for v in self.registry.versions(NAME)}


ONCE = settings(max_examples=100, stateful_step_count=30, phases=[Phase.generate], report_multiple_bugs=False)

TestDecisions = Decisions.TestCase
TestDecisions.settings = ONCE


def _plan(**lies: Any) -> Callable[[pytest.MonkeyPatch], None]:
    """Let promotions be planned by something that is not so."""
    real = promote.promotion_plan

    def planned(entries: Any, **facts: Any) -> Any:
        return real(entries, **{**facts, **{name: lie(entries) for name, lie in lies.items()}})

    return lambda patch: patch.setattr(promote, "promotion_plan", planned)


def _reconciled_once(services: Services, pipeline: str) -> None:
    """Set the alias right by what the ledger said before."""
    champion = champion_of(services.ledger.entries(pipeline))
    if champion:
        services.registry.set_alias(pipeline, "champion", champion.version)


def _never_served(entries: Any, to: int | None) -> tuple[Champion | None, str]:
    """Let whoever is named serve."""
    champion = champion_of(entries)
    named = to is not None and champion is not None and to != champion.version
    return (champion.model_copy(update={"version": to}), "") if named else ledger.rollback_target(entries, to)


BUGS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "a night is not compared with the reign that it was judged in": _plan(
        judged_against=lambda entries: head.seq if (head := reign(entries)) else 0
    ),
    "an older cutoff is as good as a newer one": _plan(cutoff=lambda _: date.max),
    "a freeze does not hold": lambda patch: patch.setattr(ledger, "frozen", lambda *_: None),
    "the second writer wins": lambda patch: patch.setattr(MemoryStore, "create", MemoryStore.put),
    "the alias follows the ledger as it was": lambda patch: [
        patch.setattr(module, "reconcile", _reconciled_once) for module in (promote, turns)
    ],
    "nobody's yes is needed": lambda patch: patch.setattr(promote, "refusal", lambda *_: None),
    "everybody may override": lambda patch: patch.setattr(promote, "may_override", lambda *_: None),
    "a failed smoke test is overridden": lambda patch: patch.setattr(Verdict, "overridable", True),
    "a deleted version is promoted": lambda patch: patch.setattr(promote, "_deleted", lambda _: None),
    "a champion comes back that never served": lambda patch: patch.setattr(rollback, "rollback_target", _never_served),
    "anchors are not looked at": lambda patch: patch.setattr(turns, "anchored", lambda *_: ()),
}


@pytest.mark.parametrize("bug", sorted(BUGS))
def test_a_planted_bug_is_found(bug: str) -> None:
    """The machine gets to where each rule matters: without the rule it fails."""

    class Planted(Decisions):
        plant = staticmethod(BUGS[bug])

    with pytest.raises((AssertionError, RatchetError, LookupError, StopIteration, pytest.fail.Exception)):
        run_state_machine_as_test(Planted, settings=settings(ONCE, max_examples=400))
