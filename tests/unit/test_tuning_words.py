"""How a search for parameters is shown."""

from __future__ import annotations

from datetime import date

from ratchet.adapters.report import HtmlReporter
from ratchet.cli.show import search_json, tell, tell_search
from ratchet.domain.night import Night, NightRequest, TrialTold, TuneResult
from ratchet.domain.tuning import Found
from ratchet.home import load_pipeline

DAY = date(2024, 3, 8)
FOUND = Found(
    study="s" * 64,
    about="a",
    cutoff=DAY,
    newest=DAY,
    seen_through=date(2024, 3, 5),
    days=("2024-03-04", "2024-03-05"),
    params={"eta": 0.123456, "max_depth": 4},
    why="there has been no search yet",
    won="trial 1: 0.4 (3 trials, 1 failed)",
    trials=(
        TrialTold(number=0, params={"eta": 0.3}, origin="spec", state="finished", score=0.5, rounds=20),
        TrialTold(
            number=1, params={"eta": 0.123456, "max_depth": 4}, origin="drawn", state="finished", score=0.4, rounds=30
        ),
        TrialTold(number=2, params={"eta": 0.1}, origin="drawn", state="failed", problem="[refused]"),
    ),
    mlflow_url="http://mlflow/search",
)


def test_search_is_shown_best_trial_first(capsys):
    """With what was chosen, what the spec's parameters gave, and why a trial failed; markup in a reason is shown, not obeyed."""
    tell_search(FOUND, "log_loss")
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == ["2024-03-08:", "searched,", "because", "there", "has", "been", "no", "search", "yet"]
    assert ["trial", "log_loss", "rounds", "eta", "max_depth"] in lines
    assert lines[-3:] == [
        ["1", "0.40000", "30", "0.1235", "4", "chosen"],
        ["0", "0.50000", "20", "0.3", "the", "spec's"],
        ["2", "failed", "0", "0.1", "[refused]"],
    ]


def test_search_as_json():
    """Its night, its loss, what it found and each trial; no digests of ours."""
    told = search_json(FOUND, "log_loss")
    assert (told["cutoff"], told["loss"], told["params"], len(told["trials"])) == (
        "2024-03-08",
        "log_loss",
        {"eta": 0.123456, "max_depth": 4},
        3,
    )
    assert not {"study", "about"} & told.keys()


def test_night_tells_where_its_parameters_come_from(capsys):
    """Where tuning has chosen them; a night of a spec without tuning says nothing of it."""
    night = Night(request=NightRequest(pipeline="p", cutoff=DAY))
    tell(night.model_copy(update={"tune": TuneResult(source="champion", params={}, why="those of champion v3")}))
    assert "parameters: those of champion v3" in capsys.readouterr().out
    tell(night.model_copy(update={"tune": TuneResult(source="spec", params={}, why="the spec's")}))
    assert "parameters" not in capsys.readouterr().out


def test_nights_page_tells_where_its_parameters_come_from():
    """With the trials of tonight's search, the best first; a night of a spec without tuning has no such section."""
    flow = load_pipeline("flight_delay")
    night = Night(request=NightRequest(pipeline="flight_delay", cutoff=DAY))
    assert b"Parameters" not in HtmlReporter().page(night, flow, None, (), ())
    tuned = TuneResult(
        source="search",
        params=FOUND.params,
        why="searched, because there has been no search yet",
        searched=True,
        trials=FOUND.trials,
        days=FOUND.days,
        seen_through=FOUND.seen_through,
    )
    page = HtmlReporter().page(night.model_copy(update={"tune": tuned}), flow, None, (), ()).decode()
    section = page[page.index('<h2 id="parameters">') :]
    assert section.index("0.40000") < section.index("0.50000")
    assert "has met no day after 2024-03-05" in section
    assert "3 trials, scored on 2 days" in section
