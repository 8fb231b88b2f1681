"""The benchmark of decisions cannot rot: every study runs on a small made-up year, and says what is true of it."""

from __future__ import annotations

import re
from datetime import date, timedelta
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from benchmarks.decisions import report, rules
from benchmarks.decisions.fits import SAME_SEEDS, SEEDS
from benchmarks.decisions.studies import STUDIES, Setting
from benchmarks.decisions.world import Side

from ratchet.domain.statistics import e_process
from ratchet.home import load_pipeline

README = Path(report.__file__).with_name("README.md")
DAYS, ROWS = 365, 90
FIRST = date(2013, 1, 1)


class MadeUp:
    """A year in which fresher models are a little better, days have a weather, and a broken pipeline is clearly worse."""

    def __init__(self) -> None:
        self.random = np.random.default_rng(4)
        self.days, self.rows = DAYS, np.full(DAYS, ROWS)
        self.names = [str(FIRST + timedelta(days=t)) for t in range(DAYS)]
        self.year = SimpleNamespace(
            first=FIRST, days=DAYS, day=lambda t: FIRST + timedelta(days=t), pipeline=load_pipeline("flight_delay")
        )
        self.squares = np.full((DAYS, DAYS, 7), 0.01)
        self.squares_of_seeds = np.full((len(SEEDS), len(SEEDS), DAYS, 7), 0.01)
        self.weather = self.random.normal(0.17, 0.04, DAYS)
        self.kept: dict[tuple[object, ...], Side] = {}

    def side(self, recipe=None, seed=0, log_odds=0.0):
        """Return made-up losses, the same for the same question."""
        key = (recipe and recipe.name, seed, log_odds)
        if key not in self.kept:
            age = np.maximum(np.arange(DAYS)[None, :] - np.arange(DAYS)[:, None], 0)
            noise = self.random.normal(0, 0.004, (DAYS, DAYS))
            loss = self.weather + 0.0001 * age + noise + 0.05 * abs(log_odds)
            self.kept[key] = Side(loss=loss, holdout=np.full(DAYS, 0.17))
        return self.kept[key]

    def auc(self, _recipe=None):
        """Return a constant."""
        return np.full(DAYS, 0.7)

    def same_data(self, _night):
        """Return fits that differ by noise."""
        loss = self.weather + self.random.normal(0, 0.004, (SAME_SEEDS, DAYS))
        return loss, np.full((SAME_SEEDS, SAME_SEEDS, DAYS), 0.01)

    def walked(self, _night):
        """Likewise."""
        return self.weather + self.random.normal(0, 0.004, (len(SEEDS), DAYS))

    def holdout(self, job, night):
        """Return a hold-out on which the demo's recipe knows more than the other."""
        y = (np.random.default_rng(night).random(7 * ROWS) < 0.25).astype(float)
        p = np.clip(0.25 + (0.2 if job.recipe.name == "base" else 0.05) * (y - 0.25), 0.01, 0.99)
        return p, y, np.repeat(self.names[:7], ROWS).tolist(), (["EWR", "JFK", "LGA"] * (7 * ROWS))[: 7 * ROWS]


@pytest.fixture(scope="module")
def answers():
    """Every study's answer on the made-up year, in little."""
    setting = Setting(MadeUp(), times=16, workers=1, every=84, night=84)
    return {name: study(setting).as_json() for name, study in STUDIES.items()}


def test_every_study_answers_and_every_answer_has_its_place(answers):
    """Each table that a run makes is found between its marks in the README, and has as many cells in each line as in its head."""
    blocks = report.blocks(answers)
    places = set(re.findall(r"<!-- begin: ([a-z-]+) -->", README.read_text()))
    assert set(blocks) == places
    for answer in answers.values():
        for head, *rows in answer["tables"].values():
            assert rows
            assert {len(row) for row in rows} == {len(head)}


def test_naive_promotes_what_is_no_better_and_the_gate_does_not(answers):
    """On swapped days, by what the tables say."""
    rates = {row[0]: float(row[1].split()[0]) for row in answers["null"]["tables"]["null"][1:]}
    assert rates["naive `>=`, 7-day hold-out"] > 10
    assert rates["**e-process, E ≥ 20**"] < 1


def test_policies_are_ranked_as_the_made_up_year_has_them(answers):
    """Where fresher is always better, refreshing loses least, and nothing beats hindsight."""
    table = answers["year"]["tables"]["year-healthy"]
    loss = {row[0]: float(row[1]) for row in table[1:]}
    assert loss["hindsight: each day's best of all models"] == min(loss.values())
    assert loss["always refresh"] < loss["**two lanes**"] < loss["never refresh"]


def test_a_spoilt_slice_passes_the_average_and_not_the_slices(answers):
    """No slice of a sound challenger gets worse; one that is badly spoilt is refused, though the average got better."""
    _, sound, _, spoilt = answers["slices"]["tables"]["slices"]
    assert sound[3:9] == ["0"] * 6
    hidden, refused, kept = map(int, spoilt[6:9])
    assert hidden >= kept >= refused > 0


def test_plots_are_small_and_the_same_every_time(answers, tmp_path):
    """A plot that is drawn again changes nothing in the repository, and none is large."""
    drawn = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        report.plots(answers, folder)
        drawn.append({path.name: path.read_bytes() for path in folder.iterdir()})
    assert drawn[0] == drawn[1]
    assert set(drawn[0]) == set(re.findall(r"\]\((\S+\.svg)\)", README.read_text()))
    assert all(len(data) < 150_000 for data in drawn[0].values())


def test_asking_seldom_misses_no_night():
    """While a rule sleeps E cannot have got where it is waited for: no day multiplies it by more than FASTEST."""
    days = [rules.piece(str(FIRST + timedelta(days=t)), 1, 1e3, 1e-9) for t in range(9)]
    grown = [e_process(days[:n], margin=0.0).better for n in range(10)]
    assert all(after <= before * rules.FASTEST * (1 + 1e-12) for before, after in pairwise(grown))
    assert all(rules.nights_to_wait(before, after) <= 1 for before, after in pairwise(grown))


def test_tables_replace_tables(tmp_path):
    """Writing changes what stands between the marks and nothing else; a table without a place is named."""
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- begin: a -->\nold\n<!-- end: a -->\nafter\n")
    assert report.write(readme, {"a": "new", "b": "lost"}) == ["b"]
    assert readme.read_text() == "before\n<!-- begin: a -->\nnew\n<!-- end: a -->\nafter\n"
