"""A model card as a page, and the figure that it shares with the night's page."""

from __future__ import annotations

from ratchet.adapters.report import HtmlReporter
from ratchet.adapters.report.card import explained
from ratchet.domain.cards import Card, CardSection, CardTable
from ratchet.domain.explanations import Explanation, FeatureShare

HOSTILE = "<script>alert(1)</script>"


def explanation(**changes):
    features = (
        FeatureShare(name="dep_hour", mean=0.6, low=0.5, high=0.7, share=0.6, champion=0.3),
        FeatureShare(name=HOSTILE, mean=0.4, low=0.0, high=0.9, share=0.4, champion=0.7),
    )
    return Explanation(**{"rows": 100, "of": 900, "days": 7, "scale": "log-odds", "features": features, **changes})


def card(**changes):
    table = CardTable(title="T", columns=("a", "b"), rows=((HOSTILE, "2"),), note="n")
    sections = (
        CardSection(key="explanation", title="What it looks at", words=("said",), tables=(table,)),
        CardSection(key="again", title="Again", facts=(("Owner", HOSTILE),), points=("one",), code="ratchet reproduce small 1"),
    )  # fmt: skip
    facts = {"pipeline": "small", "version": 3, "status": "serves", "summary": "what for", "sections": sections}
    return Card(**{**facts, "explanation": explanation(), **changes})


def test_a_page_is_whole_and_safe():
    """Every section and link is there, what comes from data is text, and nothing is loaded or run."""
    page = HtmlReporter().card(card()).decode()
    assert "<script" not in page
    assert page.count("&lt;script&gt;") >= 4
    assert "default-src 'none'" in page
    for key in ("explanation", "again"):
        assert f'href="#{key}"' in page
        assert f'id="{key}"' in page
    assert "ratchet reproduce small 1" in page
    assert "<svg" in page


def test_a_card_without_an_explanation_has_no_figure():
    """An older version's."""
    assert "<svg" not in HtmlReporter().card(card(explanation=None)).decode()


def test_features_are_drawn_beside_the_champion():
    """A dot and an interval for each feature, and the champion's dot where it was asked."""
    (figure,) = explained(explanation())
    assert str(figure.svg).count('class="dot challenger"') == 2
    assert str(figure.svg).count('class="dot champion"') == 2
    assert str(figure.svg).count('class="line challenger"') == 2
    alone = tuple(f.model_copy(update={"champion": None, "low": None, "high": None}) for f in explanation().features)
    (figure,) = explained(explanation(features=alone))
    assert 'class="dot champion"' not in str(figure.svg)
    assert len(figure.keys) == 1


def test_a_model_of_one_leaf_is_drawn():
    """Features that move nothing divide nothing by nothing."""
    still = (FeatureShare(name="x", mean=0, low=0, high=0, share=0),)
    assert len(explained(explanation(features=still))) == 1
    assert explained(Explanation(problem="opaque")) == ()
    assert explained(None) == ()
