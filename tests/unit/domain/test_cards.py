"""A card as Markdown shows what comes from data as it is, and as nothing else."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ratchet.domain.cards import Card, CardSection, CardTable, between, markdown, shown


def of(**section):
    return Card(
        pipeline="small", version=1, status="serves", summary="what for",
        sections=(CardSection(key="k", title="Title", **section),),
    )  # fmt: skip


def test_a_card_is_written_in_order():
    """Title, status, purpose, then each section's words, facts, points, tables and code."""
    text = markdown(
        of(
            words=("said",), facts=(("Owner", "tests"),), points=("one",), code="ratchet reproduce small 1",
            tables=(CardTable(title="T", columns=("a", "b"), rows=(("1", "2"),), note="n"),),
        )
    )  # fmt: skip
    parts = ["# small version 1", "**serves**", "what for", "## Title", "said", "| Owner | tests |", "- one", "**T**"]
    parts += ["| a | b |\n|---|---|\n| 1 | 2 |", "\nn\n", "```\nratchet reproduce small 1\n```"]
    places = [text.index(part) for part in parts]
    assert places == sorted(places)


@given(st.text())
def test_no_text_passes_for_markup(text):
    """Whatever a column is called or holds, a table keeps its columns and no line begins anew."""
    lines = markdown(of(tables=(CardTable(columns=("a",), rows=((text,),)),))).splitlines()
    row = lines[-1]
    assert row.startswith("| ")
    assert row.endswith(" |")
    inside = row[2:-2].replace("\\\\", "").replace("\\|", "").replace("\\<", "").replace("\\[", "").replace("\\`", "")
    assert not set(inside) & set("|<[`")


def test_code_cannot_leave_its_fence():
    """A query that holds backticks is fenced by more of them."""
    assert "````\nSELECT ```\n````" in markdown(of(code="SELECT ```"))


def test_numbers_are_written_for_people():
    """As many digits as say something."""
    assert [shown(v) for v in (None, 0.5, 12.345, 1234.5, 3.0, 1e-9, float("nan"), float("-inf"))] == [
        "–", "0.5000", "12.35", "1,234", "3", "1.00e-09", "not a number", "-infinite",
    ]  # fmt: skip
    assert (between(None), between((None, 1.0)), between((0.5, 0.75))) == ("–", "–", "0.5000 … 0.7500")
