"""Small plots as inline SVG: crisp at any size, coloured by the page's CSS, and nothing to import."""

from __future__ import annotations

from math import ceil, floor, isfinite, log10
from typing import TYPE_CHECKING, NamedTuple

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

WIDTH = 360.0
_RIGHT, _TOP, _BOTTOM = 10.0, 8.0, 34.0


class Figure(NamedTuple):
    """One plot with its caption; ``keys`` are pairs of a CSS class and what it stands for."""

    title: str
    svg: Markup
    keys: tuple[tuple[str, str], ...] = ()
    note: str = ""


class Axis(NamedTuple):
    """The range of an axis, and where it is labelled."""

    low: float
    high: float
    ticks: tuple[tuple[float, str], ...]
    label: str = ""


def axis(low: float, high: float, label: str = "", *, wanted: int = 5) -> Axis:
    """Cover ``low`` to ``high`` with round ticks."""
    if not (isfinite(low) and isfinite(high)):
        low, high = 0.0, 1.0
    if high - low <= 1e-12 * max(abs(low), abs(high), 1e-300):
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    raw = (high - low) / wanted
    power = 10.0 ** floor(log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw * 0.999)
    low, high = floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step
    count = round((high - low) / step)
    return Axis(low, high, tuple((low + i * step, _tick(low + i * step, step)) for i in range(count + 1)), label)


def day_axis(days: Sequence[str]) -> Axis:
    """Give each day a place of width one, and name as many as fit."""
    every = max(1, -(-len(days) // 7))
    ticks = tuple((i + 0.5, day[5:]) for i, day in enumerate(days) if (len(days) - 1 - i) % every == 0)
    return Axis(0, max(len(days), 1), ticks)


def _tick(value: float, step: float) -> str:
    if abs(value) < step / 1e6:
        return "0"
    if step >= 1e5 or step < 1e-6:  # noqa: PLR2004  too long to be written out
        return f"{value:.{max(1, floor(log10(abs(value) / step) + 1e-9) + 1)}g}".replace("-", "−").replace("e+", "e")
    return f"{value:,.{max(0, -floor(log10(step) + 1e-9))}f}".replace("-", "−")


class Plot:
    """A pair of axes that marks are drawn on."""

    def __init__(self, x: Axis, y: Axis, *, height: float = 230.0, left: float = 52.0, grid: bool = True) -> None:
        self.x_axis, self.y_axis, self.height, self.left = x, y, height, left
        self._marks: list[str] = []
        for value, label in y.ticks:
            self._tick(self.left - 5, self.y(value) + 3.5, label, "end")
            if grid:
                self._marks.append(f'<path class="grid" d="M{self.left:g} {self.y(value):.1f}H{WIDTH - _RIGHT:g}"/>')
        for value, label in x.ticks:
            self._tick(self.x(value), self.height - _BOTTOM + 14, label, "middle")
        if x.label:
            self._tick((self.left + WIDTH - _RIGHT) / 2, self.height - 4, x.label, "middle", "label")
        if y.label:
            middle = (self.height - _BOTTOM + _TOP) / 2
            self._marks.append(
                f'<text class="label" text-anchor="middle" transform="translate(9 {middle:.1f}) rotate(-90)">{escape(y.label)}</text>'
            )

    def x(self, value: float) -> float:
        """Return the place of a value from left; what lies outside is drawn on the edge."""
        return self.left + _share(value, self.x_axis) * (WIDTH - _RIGHT - self.left)

    def y(self, value: float) -> float:
        """Return the place of a value from the top."""
        return self.height - _BOTTOM - _share(value, self.y_axis) * (self.height - _BOTTOM - _TOP)

    def line(self, xs: Iterable[float], ys: Iterable[float], style: str) -> None:
        """Join points; a gap is left where one is not finite."""
        path, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if not (isfinite(x) and isfinite(y)):
                pen = "M"
                continue
            path.append(f"{pen}{self.x(x):.1f} {self.y(y):.1f}")
            pen = "L"
        self._marks.append(f'<path class="line {style}" d="{"".join(path)}"/>')

    def area(self, xs: Sequence[float], ys: Sequence[float], style: str) -> None:
        """Fill between the points and zero."""
        path = "".join(f"L{self.x(x):.1f} {self.y(y):.1f}" for x, y in zip(xs, ys, strict=True))
        self._marks.append(
            f'<path class="area {style}" d="M{self.x(xs[0]):.1f} {self.y(0):.1f}{path}V{self.y(0):.1f}Z"/>'
        )

    def dot(self, x: float, y: float, style: str, said: str = "", *, radius: float = 3.0) -> None:
        """Draw one point, with what it says when pointed at."""
        if isfinite(x) and isfinite(y):
            self._mark(f'circle class="dot {style}" cx="{self.x(x):.1f}" cy="{self.y(y):.1f}" r="{radius:g}"', said)

    def box(  # noqa: PLR0913, PLR0917  four edges
        self, x0: float, x1: float, y0: float, y1: float, style: str, said: str = "", opacity: float = 1.0
    ) -> None:
        """Fill a rectangle given in values."""
        left, right = sorted((self.x(x0), self.x(x1)))
        top, bottom = sorted((self.y(y0), self.y(y1)))
        faded = f' fill-opacity="{opacity:.2f}"' if opacity < 1 else ""
        self._mark(
            f'rect class="box {style}" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"{faded}',
            said,
        )

    def text(self, x: float, y: float, words: str, style: str = "tick", anchor: str = "middle") -> None:
        """Write at a place given in values."""
        self._tick(self.x(x), self.y(y), words, anchor, style)

    def svg(self, described: str) -> Markup:
        """Return the drawing; ``described`` is read to whoever cannot see it."""
        return Markup(  # noqa: S704  numbers, and text that was escaped
            f'<svg viewBox="0 0 {WIDTH:g} {self.height:g}" role="img" aria-label="{escape(described)}">{"".join(self._marks)}</svg>'
        )

    def _mark(self, element: str, said: str) -> None:
        name = element.partition(" ")[0]
        self._marks.append(f"<{element}><title>{escape(said)}</title></{name}>" if said else f"<{element}/>")

    def _tick(self, left: float, top: float, words: str, anchor: str, style: str = "tick") -> None:
        self._marks.append(
            f'<text class="{style}" x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{escape(words)}</text>'
        )


def _share(value: float, on: Axis) -> float:
    return min(1.0, max(0.0, (value - on.low) / (on.high - on.low)))
