"""The questions, each answered as tables whose figures come of this run."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from datetime import date
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from benchmarks.decisions import fits, monte, null, proof, rules, slices, year
from benchmarks.decisions.fits import BLIND, FIRST, FROZEN, HISTORY
from benchmarks.decisions.null import BothRefreshed, SameData, Swapped, quarter
from benchmarks.decisions.world import BROKEN, QUARTER

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.decisions.rules import Rule
    from benchmarks.decisions.world import Floats, World


@dataclass
class Answer:
    """Tables by name, what was aimed at and what came out, and curves for plots."""

    tables: dict[str, list[list[str]]] = field(default_factory=dict)
    targets: list[list[str]] = field(default_factory=list)
    curves: dict[str, Any] = field(default_factory=dict)

    def target(self, what: str, wanted: str, found: monte.Figure, *, met: bool, share: bool = False) -> None:
        """Note a target."""
        said = found.percent() if share else found.text(3)
        self.targets.append([what, wanted, said, "yes" if met else "**no**"])

    def as_json(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


@dataclass(frozen=True)
class Setting:
    """How much work is put into the answers."""

    world: World
    times: int
    workers: int
    every: int = 7  # nights from one start to the next, where starts are walked through
    night: int = 1  # likewise, where every night is one

    def rate(self, stage: Callable[[np.random.Generator, int], null.Stage], rule: Rule, starts: Any) -> monte.Figure:
        """Return the promotions a quarter of a rule on a stage, over quarters that begin on any of some nights."""
        slow = isinstance(rule, rules.Judged) and rule.slow

        def once(random: np.random.Generator) -> int:
            start = int(random.choice(starts))
            return quarter(stage(random, start), rule, start)

        return monte.figure(monte.replicate(once, self.times if slow else max(self.times // 4, 8), self.workers))


def wrong_promotions(setting: Setting) -> Answer:
    """Count promotions of what is no better."""
    world, answer = setting.world, Answer()
    side, starts = world.side(), np.arange(FIRST, proof.LATEST + 1)
    sides = [world.side(seed=seed) for seed in fits.SEEDS]
    same = {night: world.same_data(night) for night in fits.SAME}

    def swapped(lasting: int) -> Callable[[np.random.Generator, int], null.Stage]:
        return lambda random, start: Swapped(world, side, lasting, random, start)

    def same_data(random: np.random.Generator, start: int, *, unlucky_too: bool = False) -> null.Stage:
        loss, squares = same[start]
        scale = rules.usual(float(loss[0, start - 6 : start + 1].mean()))
        return SameData(world, loss, scale, squares, random, unlucky_too=unlucky_too)

    def refreshed(random: np.random.Generator, _: int) -> null.Stage:
        return BothRefreshed(world, sides, world.squares_of_seeds, random)

    stages: dict[str, tuple[Callable[[np.random.Generator, int], null.Stage], Any]] = {
        "swapped days (exact null)": (swapped(1), starts),
        "swapped weeks": (swapped(7), starts),
        "A/A: both refreshed, other seeds": (refreshed, starts),
        "A/A: champion's data again, other seeds": (same_data, np.array(fits.SAME)),
        "A/A: champion's data again, unlucky champions counted too": (
            partial(same_data, unlucky_too=True),
            np.array(fits.SAME),
        ),
    }
    world.squares, world.squares_of_seeds  # noqa: B018  read once, before the processes part
    rows = [["rule", *stages]]
    found: dict[tuple[str, str], monte.Figure] = {}
    for name, rule in rules.rules(year.MARGIN).items():
        for stage, (make, on) in stages.items():
            found[name, stage] = setting.rate(make, rule, on)
        digits = 3 if "process" in name else 1
        rows.append([name, *(found[name, stage].text(digits) for stage in stages)])
    answer.tables["null"] = rows
    names = list(stages)
    gate, naive = "**e-process, E ≥ 20**", "naive `>=`, 7-day hold-out"
    for name, stage, wanted, limit, sign in (
        (naive, names[0], "≥ 15", 15.0, -1),
        (gate, names[0], "≤ 0.05", 0.05, 1),
        (gate, names[1], "≤ 0.12", 0.12, 1),
        (gate, names[2], "≤ 0.06", 0.06, 1),
        (gate, names[3], "≤ 0.06", 0.06, 1),
        (gate, names[4], "≤ 0.06", 0.06, 1),
    ):
        rate = found[name, stage]
        words = f"wrong promotions a quarter, {name.replace('*', '')}: {stage}"
        answer.target(words, wanted, rate, met=sign * rate.mean <= sign * limit)
    rows = [["coins that hold for", "lag-1 autocorrelation of the coins", "wrong promotions a quarter, E ≥ 20"]]
    for lasting in (1, 2, 3, 7):
        rate = setting.rate(swapped(lasting), rules.evidence(), starts)
        rows.append([f"{lasting} day{'s' if lasting > 1 else ''}", f"{1 - 1 / lasting:.2f}", rate.text(3)])
    answer.tables["persistence"] = rows
    return answer


def backfilled(setting: Setting) -> Answer:
    """Compare evidence that is made afterwards with evidence that is made night by night."""
    world, answer = setting.world, Answer()
    sides = [world.side(seed=seed) for seed in fits.SEEDS]
    walked = {night: world.walked(night) for night in fits.WALKS}

    def live(random: np.random.Generator, start: int) -> BothRefreshed:
        del start
        return BothRefreshed(world, sides, world.squares_of_seeds, random)

    def made_afterwards(random: np.random.Generator, start: int) -> BothRefreshed:
        stage = BothRefreshed(world, sides, world.squares_of_seeds, random, walked=walked[start])
        stage.backfill(start, fits.WALK - 1)
        return stage

    rows = [["evidence", "wrong promotions a quarter"]]
    on = np.array(fits.WALKS)
    for name, stage in (
        ("live: every day as it comes", live),
        (f"{fits.WALK - 1} days walked afterwards, within the night's own snapshot, then live", made_afterwards),
    ):
        rate = setting.rate(stage, rules.evidence(), on)
        rows.append([name, rate.text(3)])
    answer.target("wrong promotions a quarter, A/A, backfilled evidence", "≤ 0.06", rate, met=rate.mean <= 0.06)
    answer.tables["backfill"] = rows
    return answer


def autocorrelations(setting: Setting) -> Answer:
    """Measure how days follow each other."""
    world, answer = setting.world, Answer()
    base, loss = world.side(), world.side().loss
    grid = range(FIRST, proof.LATEST + 1, setting.every)
    sides = [world.side(seed=seed).loss for seed in fits.SEEDS[:2]]
    streams: dict[str, list[Floats]] = {
        "champion of February, against refreshes": [
            proof.held(loss, loss, FROZEN, start, base.holdout).differences for start in grid
        ],
        "champion of the night before, against refreshes": [
            proof.held(loss, loss, start, start, base.holdout).differences for start in grid
        ],
        "A/A, both refreshed": [proof.both(sides[0], sides[1], start, base.holdout).differences for start in grid],
        "against all history, both refreshed": [
            proof.both(loss, world.side(HISTORY).loss, start, base.holdout).differences for start in grid
        ],
    }
    rows = [["daily differences of a quarter", "signal-to-noise", "lag-1 autocorrelation", "quarters above 0.2"]]
    for name, quarters in streams.items():
        found = np.array([proof.autocorrelation(q) for q in quarters])
        snr = np.array([q.mean() / q.std(ddof=1) for q in quarters])
        rows.append(
            [
                name,
                f"{np.median(snr):+.2f} ({snr.min():+.2f} to {snr.max():+.2f})",
                f"{np.median(found):.2f} ({found.min():.2f} to {found.max():.2f})",
                f"{100 * (found > 0.2).mean():.0f} %",
            ]
        )
    answer.tables["autocorrelation"] = rows
    return answer


def detection(setting: Setting) -> Answer:
    """Say how soon what is real is proved, and how often what is broken is promoted."""
    world, answer = setting.world, Answer()
    base, history, ill = world.side(), world.side(HISTORY), world.side(log_odds=BROKEN)
    starts = range(FROZEN, proof.LATEST + 1, setting.night)
    rows = [["champion of 28 February, against", "reign begins", "quarters", "detected by night 91", "median night"]]
    for name, theirs in (("refreshes of the demo's 90 days", base), ("refreshes on all history", history)):
        streams = [proof.held(base.loss, theirs.loss, FROZEN, start, base.holdout) for start in starts]
        first = proof.proved_on(streams[0])
        rows.append([name, "1 March, as it was", "1", "yes" if first else "no", str(first or "—")])
        nights = np.array([proof.proved_on(stream) or np.inf for stream in streams])
        share = float(np.isfinite(nights).mean())
        rows.append(
            [name, "each night to 30 September", str(len(nights)), f"{100 * share:.0f} %", _night(np.median(nights))]
        )
        rate, median = proof.share_proved(streams[:1], setting.times // 4, setting.workers)
        rows.append([name, "1 March, weeks drawn again", str(setting.times // 4), rate.percent(), _night(median)])
        answer.target(
            f"frozen in February, {name}: detected by night 91, weeks drawn again",
            "≥ 95 %",
            rate,
            met=rate.mean >= 0.95,
            share=True,
        )
        rate, median = proof.share_proved(streams, setting.times // 4, setting.workers)
        rows.append([name, "any night, weeks drawn again", str(setting.times // 4), rate.percent(), _night(median)])
    answer.tables["frozen"] = rows
    answer.tables["frozen-by-month"] = _by_start(
        world, [proof.held(base.loss, base.loss, FROZEN, s, base.holdout) for s in starts], starts
    )
    rows = [["a pipeline that adds 0.7 to the log odds", "rule", "quarters", "promoted within 91 nights"]]
    healthy = range(FIRST, proof.LATEST + 1, setting.night)
    for name, streams in (
        (
            "against a champion that is held",
            [proof.held(base.loss, ill.loss, start, start, base.holdout) for start in healthy],
        ),
        (
            "against the healthy recipe, both refreshed",
            [proof.both(base.loss, ill.loss, start, base.holdout) for start in healthy],
        ),
    ):
        exact = np.mean([proof.proved_on(stream) is not None for stream in streams])
        better = np.mean([stream.differences.mean() > 0 for stream in streams])
        rate, _ = proof.share_proved(streams, setting.times // 4, setting.workers)
        gate = "**e-process, E ≥ 20**"
        rows.append([name, f"(better in hindsight on the quarter's average: {100 * better:.0f} %)", "", ""])
        rows.append([name, gate, f"{len(streams)}, as they were", f"{100 * exact:.1f} %"])
        rows.append([name, gate, f"{setting.times // 4}, weeks drawn again", rate.percent()])
        answer.target(f"broken pipeline promoted, {name}", "≤ 5 %", rate, met=rate.mean <= 0.05, share=True)
    for name, rule in rules.rules(year.MARGIN).items():
        if rule is not rules.by_rows and not (isinstance(rule, rules.Judged) and rule.slow):
            passed = np.mean([proof.passes(rule, world, base.loss, ill.loss, start, start) for start in healthy])
            rows.append(
                ["against a champion that is held", name, f"{len(healthy)}, as they were", f"{100 * passed:.1f} %"]
            )
    answer.tables["broken"] = rows
    answer.curves["frozen"] = {
        name: _path(proof.held(base.loss, theirs.loss, FROZEN, FROZEN, base.holdout))
        for name, theirs in (("90 days", base), ("all history", history))
    }
    return answer


def _by_start(world: World, streams: Sequence[proof.Stream], starts: range) -> list[list[str]]:
    """Say when in the year the champion of February is found out, and when it is not the worse one."""
    head = [
        "reign begins in",
        "quarters",
        "gain of refreshing, Brier × 1,000",
        "signal-to-noise",
        "lag-1 autocorrelation",
    ]
    rows = [[*head, "detected by night 91", "with E ≥ 20 whatever the autocorrelation"]]
    months = np.array([world.year.day(start + 1).month for start in starts])
    for month in np.unique(months):
        here = [stream for stream, m in zip(streams, months, strict=True) if m == month]
        days = [stream.differences for stream in here]
        rows.append(
            [
                f"{date(world.year.first.year, month, 1):%B}",
                str(len(here)),
                f"{1000 * np.mean([d.mean() for d in days]):+.1f}",
                f"{np.mean([d.mean() / d.std(ddof=1) for d in days]):+.2f}",
                f"{np.mean([proof.autocorrelation(d) for d in days]):.2f}",
                f"{100 * np.mean([proof.proved_on(stream) is not None for stream in here]):.0f} %",
                f"{100 * np.mean([proof.proved_on(stream, 1 / rules.ALPHA) is not None for stream in here]):.0f} %",
            ]
        )
    return rows


def _night(value: float) -> str:
    return f"{value:.0f}" if np.isfinite(value) else "> 91"


def _path(stream: proof.Stream) -> list[float]:
    from ratchet.domain.statistics import e_process

    told = stream.evidence()
    return [e_process(told[:n], margin=0.0).better for n in range(1, len(told) + 1)]


def whole_year(setting: Setting) -> Answer:
    """Add up what every policy loses, while the pipeline is well and while it is broken for some weeks."""
    world, answer = setting.world, Answer()
    months = np.array([world.year.day(t).month for t in range(world.days)])[FIRST + 1 :]
    rows = world.rows[FIRST + 1 :]
    middle = (FIRST + world.days) // 2
    makers = year.policies(world, FIRST)
    for name, sick in (("healthy", range(0)), ("broken", range(middle, middle + BREAK))):
        past = year.past(world, sick)
        floor = year.floor(past, FIRST)
        head = ["policy", "whole year", *(f"{m}" for m in np.unique(months)), "champions"]
        table, curves = [head], {}
        for policy_name, make in makers.items():
            policy = make()
            serving = year.served(policy, past, FIRST)
            loss = year.losses(serving, past, FIRST)
            table.append([policy_name, *_by_month(loss, rows, months), str(len(set(serving)))])
            curves[policy_name.replace("*", "").replace("`", "")] = np.cumsum((loss - floor) * rows).tolist()
        table.append(["hindsight: each day's best of all models", *_by_month(floor, rows, months), ""])
        answer.tables[f"year-{name}"] = table
        answer.curves[f"year-{name}"] = curves
    answer.curves["broken"] = [middle - FIRST, middle - FIRST + BREAK]
    answer.tables["stretches"] = _stretches(setting, makers)
    answer.tables["starts"] = _starts(setting)
    return answer


BREAK = 28  # nights
AFTER = 28  # days after the last broken night


def _by_month(loss: Floats, rows: Floats, months: np.ndarray) -> list[str]:
    """Return the mean loss per row of the whole and of each month, in thousandths."""
    parts = [np.ones(len(months), bool), *(months == month for month in np.unique(months))]
    return [f"{1000 * np.average(loss[part], weights=rows[part]):.1f}" for part in parts]


def _stretches(setting: Setting, makers: dict[str, Callable[[], year.Policy]]) -> list[list[str]]:
    """Break the pipeline for four weeks at any time of the year, and say what each policy then loses more than with no break."""
    world = setting.world
    begins = range(FIRST + 14, world.days - BREAK - AFTER, setting.every)
    well = year.past(world)
    healthy = {name: year.losses(year.served(make(), well, FIRST), well, FIRST) for name, make in makers.items()}
    found: dict[str, list[list[float]]] = {name: [] for name in makers}
    for begin in begins:
        past = year.past(world, range(begin, begin + BREAK))
        during = slice(begin - FIRST, begin - FIRST + BREAK)
        after = slice(during.stop, during.stop + AFTER)
        for name, make in makers.items():
            loss = year.losses(year.served(make(), past, FIRST), past, FIRST)
            rows = world.rows[FIRST + 1 :]
            found[name].append(
                [
                    *(np.average(loss[part], weights=rows[part]) for part in (during, after)),
                    np.average(loss, weights=rows),
                    np.average(loss - healthy[name], weights=rows),
                ]
            )
    head = ["policy", "while it is broken", "four weeks after", "whole year", "more than without a break"]
    table = [[*head, "worst of all breaks"]]
    for name, values in found.items():
        mean = 1000 * np.array(values).mean(axis=0)
        worst = 1000 * np.array(values)[:, 3].max()
        table.append([name, *(f"{v:.1f}" for v in mean[:3]), f"{mean[3]:+.2f}", f"{worst:+.2f}"])
    return table


def _starts(setting: Setting) -> list[list[str]]:
    """Let the first champion be made at any time, and say what each policy then loses over half a year."""
    world, past = setting.world, year.past(setting.world)
    begins, span = range(FIRST, world.days - 1 - HALF_YEAR, setting.every), slice(0, HALF_YEAR)
    found: dict[str, list[float]] = {}
    for first in begins:
        rows = world.rows[first + 1 :][span]
        for name, make in year.policies(world, first).items():
            loss = year.losses(year.served(make(), past, first, HALF_YEAR), past, first)
            found.setdefault(name, []).append(float(np.average(loss, weights=rows)))
    always = np.array(found["always refresh"])
    table = [["policy", "mean loss", "more than always refreshing", "best", "worst"]]
    for name, values in found.items():
        more = 1000 * (np.array(values) - always)
        table.append(
            [name, f"{1000 * np.mean(values):.1f}", f"{more.mean():+.2f}", f"{more.min():+.2f}", f"{more.max():+.2f}"]
        )
    return table


HALF_YEAR = 182


def _noise(world: World) -> Floats:
    """Return a year of real daily differences between two recipes, without their mean, on their own standard deviation."""
    ours, theirs = world.side().loss, world.side(HISTORY).loss
    days = np.arange(FIRST + 1, world.days)
    found = ours[days - 1, days] - theirs[days - 1, days]
    return (found - found.mean()) / found.std()


def sizes(setting: Setting) -> Answer:
    """Say how long improvements of several sizes take to be proved."""
    answer = Answer()
    noise = _noise(setting.world)
    rows = [["signal-to-noise", "noise", "proved by night 91", "25 %", "median", "75 %"]]
    times = max(setting.times // 8, 16)
    curves: dict[str, list[float]] = {}
    for kind in ("real, whole weeks", "normal, independent"):
        for snr in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8):

            def once(random: np.random.Generator, kind: str = kind, snr: float = snr) -> float:
                draws = monte.blocks(random, noise, QUARTER) if "real" in kind else random.normal(size=QUARTER)
                return proof.proved_on(proof.Stream(draws + snr, 0.5)) or np.inf

            nights = np.array(monte.replicate(once, times, setting.workers))
            quartiles = np.quantile(nights, [0.25, 0.5, 0.75], method="higher")
            share = monte.figure(np.isfinite(nights))
            rows.append([f"{snr:.1f}", kind, share.percent(), *(_night(q) for q in quartiles)])
            curves.setdefault(kind, []).append(share.mean)
    answer.tables["sizes"] = rows
    answer.curves["sizes"] = curves
    return answer


def watching(setting: Setting) -> Answer:
    """Watch a new champion against its predecessor, and a streak of refreshes against the last that was proved."""
    world, answer = setting.world, Answer()
    base, loss = world.side(), world.side().loss
    starts = range(FIRST + 28, proof.LATEST + 1, setting.every)
    new: dict[str, tuple[str, Floats]] = {
        "broken, +0.7 log odds": ("bad", world.side(log_odds=BROKEN).loss),
        "broken, −0.7 log odds": ("bad", world.side(log_odds=-BROKEN).loss),
        "without weather": ("bad", world.side(BLIND).loss),
        "all history": ("open", world.side(HISTORY).loss),
        "the same recipe, 28 nights fresher": ("right", loss),
    }
    head = ["new champion", "worse in hindsight", "E ≥", "rolled back by night 91", "median night"]
    rows = [[*head, "of those truly worse", "of those truly better"]]
    for name, (_, theirs) in new.items():
        streams = []
        for c in starts:
            days = np.arange(c + 1, c + QUARTER + 1)
            streams.append(proof.Stream(theirs[c, days] - loss[c - 28, days], rules.usual(float(base.holdout[c]))))
        worse = np.array([stream.differences.mean() > 0 for stream in streams])
        for threshold in (10.0, 20.0):
            nights = np.array([proof.proved_on(stream, threshold) or np.inf for stream in streams])
            back = np.isfinite(nights)
            rows.append(
                [
                    name,
                    f"{100 * worse.mean():.0f} %",
                    f"{threshold:.0f}",
                    f"{100 * back.mean():.0f} %",
                    _night(float(np.median(nights[back]))) if back.any() else "—",
                    f"{100 * back[worse].mean():.0f} %" if worse.any() else "—",
                    f"{100 * back[~worse].mean():.0f} %" if (~worse).any() else "—",
                ]
            )
    answer.tables["rollback"] = rows
    answer.tables["streak"] = _streak(setting)
    return answer


def _streak(setting: Setting) -> list[list[str]]:
    """Watch streaks: coins that make neither better, the year as it was, and a pipeline that breaks on night 28."""
    world = setting.world
    base, ill = world.side(), world.side(log_odds=BROKEN)
    starts = np.arange(FIRST, proof.LATEST + 1, setting.night)
    quarters = [proof.held(base.loss, base.loss, int(s), int(s), base.holdout) for s in starts]
    breaks = []
    for s, quarter_ in zip(starts, quarters, strict=True):
        days = np.arange(s + 2, s + QUARTER + 1)
        serving = np.where(np.arange(len(days)) < BREAK, base.loss[days - 1, days], ill.loss[days - 1, days])
        breaks.append(proof.Stream(serving - base.loss[s, days], quarter_.scale))
    head = ["alarms a quarter that are bearable", "false alarms, coins swapped by day", "by week"]
    rows = [[*head, "alarms in the year as it was", "caught after a break", "median delay, nights", "alarm before it"]]
    for alarms in (0.05, 0.1, 0.25, 0.5, 1.0):

        def once(random: np.random.Generator, lasting: int, alarms: float = alarms) -> bool:
            quarter_ = quarters[int(random.integers(len(quarters)))]
            n = len(quarter_.differences)
            coins = np.repeat(random.choice([-1.0, 1.0], n // lasting + 1), lasting)[:n]
            return proof.alarm_on(proof.Stream(coins * quarter_.differences, quarter_.scale), alarms) is not None

        false = [
            monte.figure(
                monte.replicate(lambda random, d=lasting: once(random, d), setting.times // 2, setting.workers)
            )
            for lasting in (1, 7)
        ]
        alarm = [proof.alarm_on(proof.Stream(-q.differences, q.scale), alarms) for q in quarters]
        caught = np.array([proof.alarm_on(stream, alarms) or np.inf for stream in breaks])
        before, after = caught <= BREAK, np.isfinite(caught) & (caught > BREAK)
        delay = caught[after] - BREAK
        rows.append(
            [
                f"{alarms:g}",
                *(f.text(3) for f in false),
                f"{np.mean([a is not None for a in alarm]):.3f}",
                f"{100 * after.sum() / (~before).sum():.0f} %",
                f"{np.median(delay):.0f}" if after.any() else "—",
                f"{100 * before.mean():.0f} %",
            ]
        )
    return rows


FLEET, BETTER, GAIN = 50, 10, 0.4


def fleet(setting: Setting) -> Answer:
    """Let fifty pipelines prove beside each other."""
    answer = Answer()
    noise = _noise(setting.world)
    gains = np.where(np.arange(FLEET) < BETTER, GAIN, 0.0)
    times = max(setting.times // 40, 16)
    rows = [["rule", "wrong promotions a quarter", f"real ones kept, of {BETTER}", "wrong share of all"]]
    for name, share in (("each by itself, E ≥ 20", None), ("e-BH at 10 %, every night", 0.1)):
        found = monte.replicate(
            lambda random, share=share: proof.fleet_quarter(random, noise, gains, false_share=share),
            times,
            setting.workers,
        )
        wrong, kept = monte.figure([f.wrong for f in found]), monte.figure([f.kept for f in found])
        part = monte.figure([f.wrong / max(f.wrong + f.kept, 1) for f in found])
        rows.append([name, wrong.text(2), kept.text(2), part.percent()])
    answer.tables["fleet"] = rows
    return answer


def spoilt_slices(setting: Setting) -> Answer:
    """Spoil one origin of a challenger that is better on average."""
    answer = Answer()
    head = ["one origin spoilt by, log odds", "hold-outs", "better on average"]
    shown = f"not let through where no loss above {slices.MARGIN:g} must be shown"
    for name in ("worse at that origin", "better on average and worse at that origin", "not worse at that origin"):
        head += [name, "of these refused", shown]
    rows = [head]
    cutoffs = range(FIRST, proof.LATEST + 1, setting.every)
    for log_odds in (0.0, BROKEN, 2 * BROKEN):
        found = [met for spoilt in slices.ORIGINS for met in slices.nights(setting.world, spoilt, log_odds, cutoffs)]
        worse = [met for met in found if met.worse_there]
        hidden = [met for met in worse if met.better]
        counts = [len(found), sum(met.better for met in found)]
        for here in (worse, hidden, [met for met in found if not met.worse_there]):
            counts += [len(here), sum(not met.slices for met in here), sum(not met.shown for met in here)]
        rows.append([f"{log_odds:g}", *map(str, counts)])
    answer.tables["slices"] = rows
    return answer


STUDIES: dict[str, Callable[[Setting], Answer]] = {
    "null": wrong_promotions,
    "backfill": backfilled,
    "autocorrelation": autocorrelations,
    "detection": detection,
    "year": whole_year,
    "sizes": sizes,
    "watching": watching,
    "slices": spoilt_slices,
    "fleet": fleet,
}
