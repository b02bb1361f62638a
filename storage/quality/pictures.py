"""Pictures of a store's page, as addresses that hold the picture itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from storage.quality.measures import FLAT_UV, OUTLIER_FACTOR, STRONG_LINE_RATIO, Quality
from storage.quality.overview import Overview
from storage.signal.montage import MONTAGE, positions

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, FAINT, BLUE, GREY = "#1b1f24", "#57606a", "#d0d7de", "#0b5cad", "#6e7781"
MOST_ROWS = 30
MOST_SUBJECTS = 60
_FEWEST_ON_SCALP = 8
_WIDTH = 9.9
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "svg.hashsalt": "e2llm",
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "figure.facecolor": "white",
}


@contextmanager
def canvas(width: float, height: float) -> Iterator[Figure]:
    """Give a figure of this size in inches, in the style of the page."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


@dataclass(frozen=True)
class Picture:
    """A picture as a data URL, and its width on the page in pixels."""

    address: str
    width: int


def _picture(figure: Figure, kind: str = "svg") -> Picture:
    """Draw a figure as svg, or as png where it has very many shapes."""
    buffer = io.BytesIO()
    options: dict[str, Any] = {"metadata": {"Date": None}} if kind == "svg" else {"dpi": 160}
    figure.savefig(buffer, format=kind, **options)
    mime = {"svg": "image/svg+xml", "png": "image/png"}[kind]
    content = base64.b64encode(buffer.getvalue()).decode("ascii")
    return Picture(f"data:{mime};base64,{content}", round(96 * figure.get_figwidth()))


def label_balance(overview: Overview) -> Picture:
    """Trials and time of each label, as bars side by side."""
    from matplotlib.ticker import MaxNLocator

    table = overview.labels
    unit, times = _in_unit(table["seconds"])
    with canvas(_WIDTH, 0.75 + 0.3 * len(table)) as figure:
        panels = figure.subplots(1, 2, sharey=True)
        for axes, values, words in ((panels[0], table["trials"], "trials"), (panels[1], times, unit)):
            axes.barh(range(len(table)), values, height=0.66, color=BLUE)
            for row, value in enumerate(values):
                axes.annotate(
                    f"{value:,}" if words == "trials" else f"{value:,.1f}",
                    (value, row),
                    xytext=(5, 0),
                    textcoords="offset points",
                    va="center",
                    fontsize=9,
                    color=MUTED,
                )
            axes.set_xlabel(words)
            axes.set_xlim(0, 1.15 * max(*values, 1e-9))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=words == "trials"))
            _quiet(axes)
        panels[0].set_yticks(range(len(table)), table["label"], color=INK)
        panels[0].set_ylim(len(table) - 0.4, -0.6)
        return _picture(figure)


def subject_time(overview: Overview) -> Picture:
    """Time of each subject as bars; of many subjects how often which length occurs."""
    table = overview.subjects
    unit, times = _in_unit(3600 * table["hours"])
    with canvas(_WIDTH, 2.5) as figure:
        axes = figure.subplots()
        if len(table) > MOST_SUBJECTS:
            axes.hist(times, bins=30, color=BLUE, edgecolor="white", linewidth=0.6)
            axes.set_xlabel(unit)
            axes.set_ylabel("subjects")
        else:
            axes.bar(range(len(table)), times, width=0.66, color=BLUE)
            long = max(map(len, table["subject"])) > 3
            turned: dict[str, Any] = {"rotation": 60, "ha": "right", "rotation_mode": "anchor"} if long else {}
            axes.set_xticks(range(len(table)), [_short(name) for name in table["subject"]], fontsize=9, **turned)
            axes.set_xlim(-0.7, max(len(table), 20) - 0.3)
            axes.set_ylabel(unit)
            axes.tick_params(axis="x", length=0, labelcolor=INK)
        axes.grid(axis="y", color=FAINT, lw=0.6)
        axes.set_axisbelow(True)
        return _picture(figure)


def _in_unit(seconds: pd.Series[float]) -> tuple[str, pd.Series[float]]:
    """Give times in the largest unit in which the longest is at least one."""
    longest = float(seconds.max())
    unit, length = next((pair for pair in (("hours", 3600), ("minutes", 60)) if longest >= pair[1]), ("seconds", 1))
    return unit, seconds / length


def _short(name: str, most: int = 30) -> str:
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"


def heat_maps(overview: Overview) -> list[tuple[str, str, Picture]]:
    """Recordings by channels, one map for each kind of measure; the worst recordings where there are many.

    Returns
    -------
    list of (title, explanation, picture)
    """
    shown = overview.worst(MOST_ROWS)
    names = [info.recording_id for info in shown]
    typical = overview.typical_sd_uv
    qualities = [overview.qualities[name] for name in names]
    channels = list(dict.fromkeys(channel for quality in qualities for channel in quality.channels))
    return [
        (title, words, _heat_map(_grid(qualities, channels, column), channels, names, scale, _norm(scale, typical)))
        for title, words, column, scale in _MEASURES
    ]


def scalp_maps(overview: Overview) -> Picture | None:
    """Medians over all measured recordings on the scalp; None where too few channels have a known place."""
    qualities = list(overview.qualities.values())
    channels = list(dict.fromkeys(channel for quality in qualities for channel in quality.channels))
    spelled = positions(channels)
    if len(spelled) < _FEWEST_ON_SCALP:
        return None
    import mne

    info = mne.create_info(list(spelled.values()), 1.0, "eeg")
    info.set_montage(MONTAGE, verbose="error")
    with canvas(_WIDTH, 3.1) as figure:
        panels = figure.subplots(1, len(_MEASURES))
        for axes, (title, _, column, scale) in zip(panels, _MEASURES, strict=True):
            grid = _known(_grid(qualities, list(spelled), column))
            values = np.nanmean(grid, axis=0) if column == "bad" else np.nanmedian(grid, axis=0)
            picture, _ = mne.viz.plot_topomap(
                values,
                info,
                axes=axes,
                show=False,
                cmap=_colours(scale),
                cnorm=_norm(scale, overview.typical_sd_uv),
                contours=0,
                sensors=True,
                outlines="head",
                extrapolate="head",
                res=128,
            )
            axes.set_title(title, fontsize=10)
            bar = figure.colorbar(picture, ax=axes, orientation="horizontal", shrink=0.7, aspect=18, pad=0.02)
            _mark(bar, scale)
        return _picture(figure, "png")


_MEASURES = (
    ("Amplitude (µV)", "Median over seconds of the standard deviation within a second.", "robust_sd_uv", "amplitude"),
    (
        "Line noise (× neighbours)",
        f"Power at 50 or 60 Hz, whichever is stronger, relative to that beside it; {STRONG_LINE_RATIO:g} is much.",
        "line_ratio",
        "line",
    ),
    ("Flat or saturated (share)", "Share of time flat, or of samples at the end of the range.", "bad", "share"),
)
_COLOURS = {"amplitude": "viridis", "line": "magma_r", "share": "Reds"}


def _grid(qualities: Sequence[Quality], channels: Sequence[str], column: str) -> np.ndarray:
    """One row per recording, one column per channel; NaN where a recording has no such channel or value."""
    grid = np.full((len(qualities), len(channels)), np.nan)
    place = {channel: index for index, channel in enumerate(channels)}
    for row, quality in enumerate(qualities):
        if column == "bad":
            values: Sequence[float | None] = np.maximum(quality.flat_share, quality.saturated_share).tolist()
        else:
            values = getattr(quality, column)
        for channel, value in zip(quality.channels, values, strict=True):
            if channel in place and value is not None:
                grid[row, place[channel]] = value
    return grid


def _known(grid: np.ndarray) -> np.ndarray:
    """Replace channels without any value by the median of the known values."""
    empty = np.isnan(grid).all(axis=0)
    fill = np.nanmedian(grid) if not empty.all() else 1.0
    grid = grid.copy()
    grid[:, empty] = fill
    return grid


def _colours(scale: str) -> Any:
    import matplotlib as mpl

    return mpl.colormaps[_COLOURS[scale]].with_extremes(bad="#e7eaee")


def _norm(scale: str, typical_uv: float) -> Any:
    """Colour scale; that of amplitudes reaches as far from the store's typical one as no channel should be."""
    from matplotlib.colors import LogNorm, Normalize

    if scale == "share":
        return Normalize(0.0, 1.0, clip=True)
    if scale == "line":
        return LogNorm(1.0, 1000.0, clip=True)
    middle = max(typical_uv, FLAT_UV)
    return LogNorm(middle / OUTLIER_FACTOR, middle * OUTLIER_FACTOR, clip=True)


def _mark(bar: Any, scale: str) -> None:
    """Label a colour bar with plain numbers."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    if scale != "share":
        bar.ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if scale == "amplitude" else (1,)))
        bar.ax.xaxis.set_minor_formatter(NullFormatter())
    bar.ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    bar.ax.tick_params(labelsize=8)
    bar.outline.set_visible(False)


def _heat_map(grid: np.ndarray, channels: Sequence[str], names: Sequence[str], scale: str, norm: Any) -> Picture:
    rows = [_short(name) for name in names]
    longest = max(map(len, rows))
    width = min(_WIDTH, 1.2 + 0.075 * longest + 0.36 * len(channels))
    with canvas(max(width, 4.0), 1.15 + 0.17 * len(names)) as figure:
        axes = figure.subplots()
        picture = axes.pcolormesh(
            np.ma.masked_invalid(grid),
            cmap=_colours(scale),
            norm=norm,
            edgecolors="white",
            linewidth=0.5,
        )
        small = 7 if len(channels) > 30 else 9
        axes.set_xticks(np.arange(len(channels)) + 0.5, channels, rotation=90, fontsize=small, color=INK)
        axes.set_yticks(np.arange(len(rows)) + 0.5, rows, fontsize=8, color=INK)
        axes.set_ylim(len(names), 0)
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(picture, ax=axes, orientation="horizontal", location="top", shrink=0.3, aspect=30)
        _mark(bar, scale)
        return _picture(figure, "png")


def _quiet(axes: Axes) -> None:
    """Remove axes that add nothing to labelled bars."""
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=FAINT, lw=0.6)
    axes.set_axisbelow(True)
