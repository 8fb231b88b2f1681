"""The page of a model card, and the figure of what a model looks at, which the night's page shows too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ratchet.adapters.report.svg import Axis, Figure, Plot, axis

if TYPE_CHECKING:
    from ratchet.domain.cards import Card
    from ratchet.domain.explanations import Explanation

_SHOWN = 14  # features
_ROW = 17.0  # pixels
_NAME = 26  # characters


def page(card: Card) -> bytes:
    """Render one self-contained page."""
    from ratchet.adapters.report.page import environment  # noqa: PLC0415  which imports this module

    html = environment().get_template("card.html").render(card=card, figures=explained(card.explanation))
    return html.encode(errors="replace")


def explained(found: Explanation | None) -> tuple[Figure, ...]:
    """Draw what a model looks at: a dot with its interval for each feature, beside the champion's."""
    features = found.features[:_SHOWN] if found else ()
    if found is None or not features:
        return ()
    total = sum(f.mean for f in found.features) / (sum(f.share for f in found.features) or 1.0) or 1.0
    most = max(max(f.share, (f.high or 0.0) / total, f.champion or 0.0) for f in features)
    rows = len(features)
    ticks = tuple((rows - i - 0.5, _short(f.name)) for i, f in enumerate(features))
    plot = Plot(
        axis(0, 100 * most, "share of the importance, %"),
        Axis(0, rows, ticks),
        height=_ROW * rows + 46,
        left=150,
        grid=False,
    )
    for i, f in enumerate(features):
        y, share = rows - i - 0.5, 100 * f.share
        if f.low is not None and f.high is not None:
            plot.line((100 * f.low / total, 100 * f.high / total), (y, y), "challenger")
        if f.champion is not None:
            plot.dot(100 * f.champion, y, "champion", f"{f.name}: champion {100 * f.champion:.1f} %")
        between = (
            "" if f.low is None or f.high is None else f" ({100 * f.low / total:.1f} to {100 * f.high / total:.1f})"
        )
        plot.dot(share, y, "challenger", f"{f.name}: {share:.1f} %{between}", radius=4)
    keys = [("challenger", "challenger, with its 95 % interval over days")]
    keys += [("champion", "champion, on the same rows")] if any(f.champion is not None for f in features) else []
    said = "; ".join(f"{f.name} {100 * f.share:.0f} %" for f in features)
    return (
        Figure("What the predictions rest on", plot.svg(f"Importance by feature: {said}"), tuple(keys), _note(found)),
    )


def _note(found: Explanation) -> str:
    more = len(found.features) - _SHOWN + found.left_out
    said = f"Mean absolute SHAP contribution over {found.rows:,} of {found.of:,} rows of the hold-out"
    return said + (f"; {more} smaller features are not shown." if more > 0 else ".")


def _short(name: str) -> str:
    return name if len(name) <= _NAME else f"{name[: _NAME - 1]}…"
