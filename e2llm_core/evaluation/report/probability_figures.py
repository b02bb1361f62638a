"""Figures of probabilities: how often answers are right at the stated confidence, and the risk at each coverage."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes

from e2llm_core.evaluation.probabilities import Judged, reliability, risk_coverage
from e2llm_core.evaluation.report.figures import ORANGE, canvas, to_svg
from storage.quality.pictures import BLUE, FAINT, GREY, INK

_POINTS = 400
_COLOURS = (BLUE, GREY, ORANGE, INK)


def probability_panels(sets: Mapping[str, Judged], name: str) -> str:
    """Plot reliability and risk-coverage side by side.

    Parameters
    ----------
    sets
        At most four sets of probabilities, by their name in the legend.
    name
        Prefix of the identifiers inside the SVG.
    """
    with canvas(9.9, 3.5) as figure:
        left, right = figure.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=INK, lw=1.0, ls=(0, (2, 1.4)), zorder=1)
        for (words, judged), colour in zip(sets.items(), _COLOURS, strict=False):
            _reliability(left, judged, words, colour)
            coverage, risk = risk_coverage(judged)
            shown = np.unique(np.linspace(0, len(risk) - 1, _POINTS).astype(int))
            right.plot(coverage[shown], risk[shown], color=colour, lw=1.6, label=words)
        left.set(xlim=(0, 1.02), ylim=(-0.02, 1.02), xlabel="confidence", ylabel="share of right answers")
        right.set(
            xlim=(0, 1.02),
            ylim=(-0.02, 1.02),
            xlabel="coverage: share of items answered",
            ylabel="risk: share of errors",
        )
        for axes in (left, right):
            axes.legend(frameon=False, fontsize=9, loc="upper left")
            axes.grid(color=FAINT, lw=0.6)
            axes.set_axisbelow(True)
        return to_svg(figure, name, "reliability of the stated confidence, and risk over coverage")


def _reliability(axes: Axes, judged: Judged, words: str, colour: str) -> None:
    """Draw a point for each bin that holds answers; its size grows with their number."""
    items, confidence, right = reliability(judged).sum(axis=0).T
    held = items > 0
    at, hit = confidence[held] / items[held], right[held] / items[held]
    sizes = 12 + 240 * items[held] / items.sum()
    axes.plot(at, hit, color=colour, lw=1.2, label=words, zorder=2)
    axes.scatter(at, hit, s=sizes, color=colour, edgecolors="white", linewidths=0.8, zorder=3)
