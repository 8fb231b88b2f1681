"""Where everything lies in the platform's own bucket (``RATCHET_BUCKET``). One place to change it.

A segment's model has a name of its own (``domain.segments``), and so have its nights and its ledger. The data that it learns from is
its pipeline's: snapshots, validation, quarantine and summaries lie once, whichever of the two names is asked with.
"""

from __future__ import annotations

from datetime import date

from ratchet.domain.segments import BETWEEN, parent_of

_BROKEN = "-broken"


def snapshot(pipeline: str, digest: str) -> str:
    """Key of a snapshot's manifest."""
    return f"snapshots/{parent_of(pipeline)}/{digest}.json"


def pinned(pipeline: str, scope: str, cutoff: date) -> str:
    """Key of the note that says which snapshot a night has pinned; ``scope`` is the digest of what the spec reads."""
    return f"pins/{parent_of(pipeline)}/{scope[:16]}/{cutoff}.json"


def pins(pipeline: str, scope: str) -> str:
    """Prefix of all notes of one scope."""
    return f"pins/{parent_of(pipeline)}/{scope[:16]}/"


def validation(pipeline: str, suite_digest: str, content: str, *, broken: bool = False) -> str:
    """Key of one partition's validation result under one suite; it says itself whether there must be a note on quarantine."""
    return f"{validations(pipeline, suite_digest)}{content}{_BROKEN if broken else ''}.json"


def validated(uri: str) -> tuple[str, bool]:
    """Return the content that a validation result is about, and whether anything in it was broken."""
    content = uri.rpartition("/")[2].removesuffix(".json")
    return content.removesuffix(_BROKEN), content.endswith(_BROKEN)


def data_docs(pipeline: str, suite_digest: str, content: str) -> str:
    """Key of one partition's Data Docs page."""
    return f"data_docs/{parent_of(pipeline)}/{suite_digest[:16]}/{content}.html"


def validations(pipeline: str, suite_digest: str) -> str:
    """Prefix of all validation results under one suite."""
    return f"validations/{parent_of(pipeline)}/{suite_digest[:16]}/"


def quarantine(pipeline: str, suite_digest: str, content: str) -> str:
    """Key of the note on a partition that one suite put in quarantine."""
    return f"{quarantines(pipeline, suite_digest)}{content}.json"


def quarantines(pipeline: str, suite_digest: str) -> str:
    """Prefix of all quarantine notes under one suite."""
    return f"quarantine/{parent_of(pipeline)}/{suite_digest[:16]}/"


def quarantined_rows(pipeline: str, suite_digest: str, content: str) -> str:
    """Key of the rows of a partition that one suite put in quarantine one by one."""
    return f"{quarantines(pipeline, suite_digest)}{content}.parquet"


def release(pipeline: str, content: str, release_digest: str) -> str:
    """Key of a decision that quarantined rows of a partition's content are given back."""
    return f"{releases(pipeline)}{content}/{release_digest}.json"


def releases(pipeline: str) -> str:
    """Prefix of all such decisions."""
    return f"releases/{parent_of(pipeline)}/"


def summary(pipeline: str, plan: str, content: str) -> str:
    """Key of what one source file was found to hold; ``plan`` is the digest of what it was asked."""
    return f"summaries/{parent_of(pipeline)}/{plan[:16]}/{content}.json"


def reference_profile(pipeline: str, cutoff: date, artifact_digest: str) -> str:
    """Key of the distributions that a night's model was trained on, against which fresh data is held."""
    return f"profiles/{pipeline}/{cutoff}/{artifact_digest}.json"


def fresh_counts(pipeline: str, cutoff: date, artifact_digest: str) -> str:
    """Key of the same of the days that have come since that model was made."""
    return f"profiles/{pipeline}/{cutoff}/{artifact_digest}-fresh.json"


def scores(pipeline: str, day: date, version: int) -> str:
    """Key of one version's predictions for one day."""
    return f"scores/{pipeline}/dt={day}/version={version}.parquet"


def scored(pipeline: str, day: date, version: int) -> str:
    """Key of one version's losses for one day: the evidence."""
    return f"evidence/{pipeline}/dt={day}/version={version}.json"


def scored_place(uri: str) -> tuple[date, int]:
    """Return the day and the version that an address of the evidence is about."""
    day, version = uri.split("/")[-2:]
    return date.fromisoformat(day.removeprefix("dt=")), int(version.removeprefix("version=").removesuffix(".json"))


def evidence(pipeline: str) -> str:
    """Prefix of all evidence."""
    return f"evidence/{pipeline}/"


def recipe(pipeline: str, recipe_spec: str) -> str:
    """Key of a recipe as it was declared, so that it can be fitted again when it no longer stands in the home."""
    return f"recipes/{pipeline}/{recipe_spec}.json"


def searches(pipeline: str) -> str:
    """Prefix of what searches for parameters have found."""
    return f"tuning/{pipeline}/found/"


def search(pipeline: str, cutoff: date, study: str) -> str:
    """Key of what one search has found; written once."""
    return f"{searches(pipeline)}{cutoff}-{study[:16]}.json"


def searched(uri: str) -> date:
    """Return the cutoff of the night that an address of a search is about."""
    return date.fromisoformat(uri.rpartition("/")[2][:10])


def search_trials(pipeline: str, cutoff: date, study: str) -> str:
    """Prefix of the trials of one search."""
    return f"tuning/{pipeline}/trials/{cutoff}/{study[:16]}/"


def search_trial(pipeline: str, cutoff: date, study: str, number: int) -> str:
    """Key of one trial of a search; written once."""
    return f"{search_trials(pipeline, cutoff, study)}{number:05d}.json"


def search_run(pipeline: str, cutoff: date, study: str) -> str:
    """Key of the note that names the tracked run of a search."""
    return f"tuning/{pipeline}/runs/{cutoff}-{study[:16]}"


def trial_day(pipeline: str, reign: int, recipe: str, day: date) -> str:
    """Key of one day of a trial: a recipe against the champion's, or refreshing against holding."""
    return f"{trial(pipeline, reign, recipe)}{day}.json"


def trial(pipeline: str, reign: int, recipe: str) -> str:
    """Prefix of all days of a recipe's trial in one reign."""
    return f"{trials(pipeline)}{reign:08d}/{recipe[:16]}/"


def trials(pipeline: str) -> str:
    """Prefix of all trials."""
    return f"trials/{pipeline}/"


def fleet_member(fleet: str, pipeline: str) -> str:
    """Key of where one pipeline's evidence stands, for the fleet that shares its false promotions."""
    return f"{fleet_members(fleet)}{pipeline}.json"


def fleet_members(fleet: str) -> str:
    """Prefix of a fleet."""
    return f"fleets/{fleet}/"


def step(pipeline: str, run_key: str, name: str, *, dry_run: bool) -> str:
    """Key of a step's result for one run; written once."""
    return f"{'dry-runs' if dry_run else 'runs'}/{pipeline}/{run_key}/{name}"


def explanation(pipeline: str, run_key: str, *, dry_run: bool) -> str:
    """Key of what a night's challenger looks at."""
    return step(pipeline, run_key, "explanation.json", dry_run=dry_run)


def card(pipeline: str, run_key: str) -> str:
    """Key of the card of the version that a night has made, as it was known that night."""
    return step(pipeline, run_key, "card.html", dry_run=False)


def night(pipeline: str, cutoff: date, run: str) -> str:
    """Key of a night's record."""
    return f"nights/{pipeline}/{cutoff}/{run}.json"


def nights(pipeline: str) -> str:
    """Prefix of all nights' records."""
    return f"nights/{pipeline}/"


def report(pipeline: str, cutoff: date, run: str) -> str:
    """Key of a night's page."""
    return f"reports/{pipeline}/{cutoff}/{run}.html"


def alert(pipeline: str, cutoff: date, kind: str) -> str:
    """Key of one alert of a night; a night tells of one kind once."""
    return f"{alerts(pipeline)}{cutoff}-{kind}.json"


def alerts(pipeline: str) -> str:
    """Prefix of all alerts."""
    return f"alerts/{pipeline}/"


def probes(day: date) -> str:
    """Prefix of what a day's probes of the store have written, and removed again unless they were killed."""
    return f"probes/{day}/"


def segments(pipeline: str) -> str:
    """Prefix of what became of a pipeline's segments, night by night."""
    return f"segments/{pipeline}/"


def segments_of(pipeline: str, cutoff: date, run: str) -> str:
    """Key of what became of all segments in one night."""
    return f"{segments(pipeline)}{cutoff}/{run}.json"


def nights_of_segments(pipeline: str) -> str:
    """Prefix of the nights' records of all segments of a pipeline."""
    return f"nights/{pipeline}{BETWEEN}"


def overviews() -> str:
    """Prefix of what the overview shows of each pipeline; all of it can be made again from nights and ledgers."""
    return "overview/"


def overview(pipeline: str) -> str:
    """Key of what the overview shows of one pipeline."""
    return f"{overviews()}{pipeline}.json"


def ledger(pipeline: str) -> str:
    """Prefix of a pipeline's ledger."""
    return f"ledger/{pipeline}/"


def ledgers_of_segments(pipeline: str) -> str:
    """Prefix of the ledgers of all segments of a pipeline."""
    return f"ledger/{pipeline}{BETWEEN}"


def ledger_entry(pipeline: str, seq: int) -> str:
    """Key of one ledger entry."""
    return f"ledger/{pipeline}/{seq:08d}.json"
