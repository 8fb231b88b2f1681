"""The README's tables and plots, written from what a run found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

INK = ("#1b6ca8", "#b5482a", "#2e8b57", "#7a5195", "#c58b00", "#444444", "#d1495b", "#00798c")


def markdown(table: Sequence[Sequence[str]]) -> str:
    """Return a table as Markdown."""
    head, *rows = table
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def write(readme: Path, blocks: Mapping[str, str]) -> list[str]:
    """Put each block between its marks, and return the names of those that have none."""
    text, lost = readme.read_text(), []
    for name, block in blocks.items():
        marks = re.compile(rf"(<!-- begin: {re.escape(name)} -->\n).*?(<!-- end: {re.escape(name)} -->)", re.DOTALL)
        if not marks.search(text):
            lost.append(name)
        text = marks.sub(lambda found, block=block: f"{found[1]}{block}\n{found[2]}", text)
    readme.write_text(text)
    return lost


def blocks(answers: Mapping[str, Mapping[str, Any]], suffix: str = "") -> dict[str, str]:
    """Return every table by name, and the targets of all studies as one."""
    found = {
        f"{name}{suffix}": markdown(table) for answer in answers.values() for name, table in answer["tables"].items()
    }
    targets = [target for answer in answers.values() for target in answer["targets"]]
    return {**found, f"targets{suffix}": markdown([["", "target", "found", "met"], *targets])}


def plots(answers: Mapping[str, Mapping[str, Any]], folder: Path) -> None:
    """Draw the curves as SVG."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {"svg.hashsalt": "ratchet", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}
    )
    if "year" in answers:
        _year(answers["year"]["curves"], folder)
    if "sizes" in answers:
        _sizes(answers["sizes"]["curves"]["sizes"], folder)
    if "detection" in answers:
        _frozen(answers["detection"]["curves"]["frozen"], folder)


def _save(figure: Any, path: Path) -> None:
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None, "Creator": None})


def _year(curves: Mapping[str, Any], folder: Path) -> None:
    from matplotlib.figure import Figure

    for name in ("healthy", "broken"):
        figure = Figure(figsize=(7.5, 3.6))
        axes = figure.subplots()
        for (policy, values), ink in zip(curves[f"year-{name}"].items(), INK, strict=False):
            two = policy.startswith("two lanes")
            axes.plot(
                values, label=policy, color=ink, linewidth=2.2 if two else 1.2, ls="--" if "breakers" in policy else "-"
            )
        if name == "broken":
            axes.axvspan(*curves["broken"], color="#d1495b", alpha=0.12, linewidth=0)
        axes.set_xlabel("days after the first champion")
        axes.set_ylabel("Brier lost beyond hindsight,\nsummed over flights")
        axes.legend(frameon=False, fontsize=7)
        _save(figure, folder / f"year-{name}.svg")


def _sizes(curves: Mapping[str, Sequence[float]], folder: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3))
    axes = figure.subplots()
    for (kind, shares), ink in zip(curves.items(), INK, strict=False):
        axes.plot(np.arange(1, 9) / 10, 100 * np.array(shares), marker="o", markersize=3, color=ink, label=kind)
    axes.set_xlabel("nightly signal-to-noise of the improvement")
    axes.set_ylabel("% proved by night 91")
    axes.legend(frameon=False)
    _save(figure, folder / "sizes.svg")


def _frozen(curves: Mapping[str, Sequence[float]], folder: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5.5, 3))
    axes = figure.subplots()
    for (kind, path), ink in zip(curves.items(), INK, strict=False):
        axes.semilogy(np.arange(1, len(path) + 1), path, color=ink, label=f"refreshes: {kind}")
    axes.axhline(20, color="#444444", linewidth=0.8, ls=":")
    axes.set_xlabel("nights since 1 March")
    axes.set_ylabel("E that refreshing is better")
    axes.legend(frameon=False)
    _save(figure, folder / "frozen.svg")
