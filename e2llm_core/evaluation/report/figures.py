"""Figures of the report, as SVG or PNG that can be embedded in the page."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from storage.quality.pictures import BLUE, FAINT, GREY, INK, STYLE

ORANGE = "#b3541e"

_COLOURS = {"model": BLUE, "reference": INK, "control": ORANGE}
_STYLE: Any = STYLE | {"svg.fonttype": "none"}


@dataclass(frozen=True)
class DotRow:
    """One line of the dot-and-interval plot.

    Attributes
    ----------
    name
        Label on the left.
    value, low, high
        Estimate and its interval; the ends may be null.
    chance
        Expected value under the row's null; null if there is none.
    subjects
        One value per subject.
    kind
        ``"model"``, ``"reference"`` (baseline, oracle) or ``"control"``; sets the colour.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    chance: float | None
    subjects: tuple[float, ...]
    kind: str


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """Yield a figure of this size in inches, in the style of the report."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Inline SVG with unique identifiers, a description for screen readers and no external references."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\sxmlns(:\w+)?="[^"]*"', "", text)
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    text = re.sub(r'^<svg([^>]*?)\sheight="[^"]*"', r"<svg\1", text, count=1)
    return text.replace("<svg", f'<svg role="img" aria-label="{description}"', 1)


def to_png(figure: Figure, dpi: int = 150) -> str:
    """PNG as a data URL, for figures with too many shapes for SVG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=dpi)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def dot_intervals(rows: Sequence[DotRow], name: str, axis: str) -> str:
    """Plot estimates with intervals, each with its own chance mark and one point per subject.

    Parameters
    ----------
    rows
        Rows of the plot, from top to bottom.
    name
        Prefix of the identifiers inside the SVG.
    axis
        Label of the axis.
    """
    with canvas(9.9, 0.75 + 0.42 * len(rows)) as figure:
        axes = figure.subplots()
        for place, row in enumerate(rows):
            _draw_row(axes, row, place)
        lowest = min([0.0, *(row.value for row in rows), *(value for row in rows for value in row.subjects)])
        axes.set_xlim(min(0.0, lowest) - 0.02, 1.02)
        axes.set_ylim(len(rows) - 0.45, -0.55)
        axes.set_yticks(range(len(rows)), [row.name for row in rows], color=INK)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="x", color=FAINT, lw=0.6)
        axes.set_axisbelow(True)
        axes.set_xlabel(axis)
        return to_svg(figure, name, f"{axis} of each model and control with interval, chance and subjects")


def _draw_row(axes: Axes, row: DotRow, place: int) -> None:
    """Draw the chance mark, the subjects, the interval and the estimate of one row."""
    colour = _COLOURS[row.kind]
    if row.chance is not None:
        axes.plot(
            [row.chance] * 2,
            [place - 0.34, place + 0.34],
            color=INK,
            lw=1.6,
            ls=(0, (2, 1.4)),
            zorder=2,
        )
    axes.plot(
        row.subjects,
        place + _spread(len(row.subjects)),
        "o",
        ms=4,
        mfc="white",
        mec=colour,
        mew=0.9,
        alpha=0.75,
        zorder=3,
    )
    if row.low is not None and row.high is not None:
        axes.plot(
            [row.low, row.high],
            [place, place],
            color=colour,
            lw=2.4,
            solid_capstyle="round",
            zorder=4,
        )
    axes.plot(row.value, place, "o", ms=8, mfc=colour, mec="white", mew=1.2, zorder=5)
    axes.annotate(
        f"{row.value:.3f}",
        (1.0, place),
        xycoords=("axes fraction", "data"),
        xytext=(8, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        annotation_clip=False,
    )


def _spread(count: int) -> NDArray[np.float64]:
    """Small vertical offsets that keep the points of subjects apart."""
    return 0.16 * np.where(np.arange(count) % 2, 1.0, -1.0) if count > 1 else np.zeros(count)


def confusion(counts: NDArray[np.int64], labels: Sequence[str], name: str) -> str:
    """Plot a confusion matrix: colour shows the share of the true label, the number in a cell the count.

    Parameters
    ----------
    counts
        Shape (K, K + 1), see `scores.confusion_counts`; the invalid column is drawn if it is not empty.
    labels
        The K labels.
    name
        Prefix of the identifiers inside the SVG.
    """
    columns = [*labels, "invalid"] if counts[:, -1].any() else list(labels)
    shown = counts[:, : len(columns)]
    shares = shown / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    longest = max(map(len, columns))
    with canvas(1.2 + 0.075 * longest + 0.56 * len(columns), 0.9 + 0.06 * longest + 0.5 * len(labels)) as figure:
        axes = figure.subplots()
        axes.pcolormesh(shares, cmap="Blues", vmin=0, vmax=1, edgecolors="white", linewidth=1.2)
        for row, column in np.ndindex(*shown.shape):
            colour = "white" if shares[row, column] > 0.55 else INK if shown[row, column] else GREY
            axes.text(
                column + 0.5,
                row + 0.5,
                f"{shown[row, column]}",
                ha="center",
                va="center",
                color=colour,
                fontsize=9,
            )
        axes.set_xticks(
            np.arange(len(columns)) + 0.5, columns, rotation=40, ha="right", rotation_mode="anchor", color=INK
        )
        axes.set_yticks(np.arange(len(labels)) + 0.5, labels, color=INK)
        axes.set_ylim(len(labels), 0)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.set_xlabel("answer")
        axes.set_ylabel("truth")
        return to_svg(figure, name, "confusion matrix with counts, coloured by share of the true label")


def learning_curves(curves: Mapping[str, Sequence[Mapping[str, Any]]], name: str) -> str:
    """Plot the loss over steps: one panel per stage, training as a line, validation as a line with points."""
    with canvas(9.9, 2.5) as figure:
        panels = np.atleast_1d(figure.subplots(1, len(curves)))
        for number, (axes, (stage, rows)) in enumerate(zip(panels, curves.items(), strict=True)):
            for split, colour, marker in (("train", BLUE, ""), ("validation", ORANGE, "o")):
                part = [row for row in rows if row.get("split", "train") == split and "loss" in row]
                if part:
                    steps, losses = [row["step"] for row in part], [row["loss"] for row in part]
                    axes.plot(steps, losses, color=colour, lw=1.6, marker=marker, ms=3.5, label=split)
            axes.set_title(re.sub(r"(?<=\D)(?=\d)", " ", stage), fontsize=10, loc="left", color=INK)
            axes.set_xlabel("step")
            axes.grid(axis="y", color=FAINT, lw=0.6)
            axes.margins(x=0.02)
            if number == 0:
                axes.set_ylabel("loss")
                axes.legend(frameon=False, fontsize=9)
        return to_svg(figure, name, "training and validation loss over steps for each stage")
