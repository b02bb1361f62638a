"""Pictures of signals for the report: EEG traces and scalp maps."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes

from e2llm_core.evaluation.report.figures import canvas, to_png, to_svg
from e2llm_core.evaluation.report.inputs import Example, Topomaps
from storage.quality.pictures import INK

N_TRACES = 10
_PREFERRED_CHANNELS = ("Fp1", "Fp2", "F7", "Fz", "F8", "T7", "Cz", "T8", "Pz", "Oz")


def eeg_trace(example: Example, name: str) -> str:
    """Plot up to ten channels above each other, with a time axis in seconds and a scale bar in microvolts."""
    order = _choose_channels(example.channels)
    eeg = np.asarray(example.eeg_uv, dtype=float)[order]
    eeg = eeg - np.median(eeg, axis=1, keepdims=True)
    times = np.arange(eeg.shape[1]) / example.sfreq_hz
    scale = _round_scale(float(np.percentile(np.abs(eeg), 98)))
    gap = 1.6 * scale
    with canvas(9.4, 3.7) as figure:
        axes = figure.subplots()
        for place, trace in enumerate(eeg):
            axes.plot(times, np.clip(trace, -1.5 * gap, 1.5 * gap) - place * gap, color=INK, lw=0.6)
        axes.set_yticks([-place * gap for place in range(len(order))], [example.channels[index] for index in order])
        axes.tick_params(axis="y", length=0, labelsize=9)
        axes.set_xlim(0, times[-1] if len(times) > 1 else 1)
        axes.set_ylim(-(len(order) - 0.2) * gap, 1.1 * gap)
        axes.spines["left"].set_visible(False)
        axes.set_xlabel("time (s)")
        bar = 1.015
        ends = np.array([-gap * 0.5 - scale / 2, -gap * 0.5 + scale / 2])
        axes.plot([bar, bar], ends, transform=axes.get_yaxis_transform(), color=INK, lw=2, clip_on=False)
        axes.annotate(
            f"{scale:g} µV",
            (bar, -gap * 0.5),
            xycoords=axes.get_yaxis_transform(),
            xytext=(6, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            annotation_clip=False,
        )
        return to_svg(figure, name, f"EEG trace of {len(order)} channels")


def _choose_channels(channels: Sequence[str]) -> list[int]:
    """Choose well-known channels over the whole head, filled up evenly from the others, in montage order."""
    by_name = {name.lower(): index for index, name in reversed(list(enumerate(channels)))}
    chosen = [by_name[name.lower()] for name in _PREFERRED_CHANNELS if name.lower() in by_name]
    others = [index for index in range(len(channels)) if index not in chosen]
    missing = min(N_TRACES, len(channels)) - len(chosen)
    if missing > 0:
        chosen += [others[place] for place in np.linspace(0, len(others) - 1, missing).astype(int)]
    return sorted(chosen)


def _round_scale(value: float) -> float:
    """Round to 1, 2 or 5 times a power of ten."""
    if not np.isfinite(value) or value <= 0:
        return 1.0
    power = 10.0 ** np.floor(np.log10(value))
    return float(min((1, 2, 5, 10), key=lambda step: abs(step * power - value)) * power)


def topomaps(content: Topomaps) -> tuple[str, list[str]]:
    """Scalp maps, one row per class and one column per band, on one colour scale per band.

    Returns
    -------
    picture
        PNG as a data address.
    left_out
        Channels without a position in the standard 10-05 montage.
    """
    import mne

    known = {name.lower(): name for name in mne.channels.make_standard_montage("colin27_1005").ch_names}
    placed = [index for index, name in enumerate(content.channels) if name.lower() in known]
    left_out = [name for name in content.channels if name.lower() not in known]
    if len(placed) < 3:
        raise ValueError(f"scalp maps need three channels with 10-05 names, got {list(content.channels)}")
    names = [known[content.channels[index].lower()] for index in placed]
    info = mne.create_info(names, 100.0, "eeg")
    info.set_montage("colin27_1005", verbose="error")
    n_classes, n_bands = len(content.labels), len(content.bands)
    with canvas(9.9, 0.55 + 1.32 * n_classes) as figure:
        panels = np.reshape(figure.subplots(n_classes, n_bands), (n_classes, n_bands))
        for column, band in enumerate(content.bands):
            limit = float(np.abs(content.maps[:, column, placed]).max()) or 1.0
            for row, label in enumerate(content.labels):
                axes: Axes = panels[row, column]
                picture, _ = mne.viz.plot_topomap(
                    content.maps[row, column, placed],
                    info,
                    axes=axes,
                    show=False,
                    cmap="RdBu_r",
                    vlim=(-limit, limit),
                    contours=0,
                    sensors=False,
                    outlines="head",
                    extrapolate="head",
                    res=96,
                )
                if row == 0:
                    axes.set_title(band, fontsize=10)
                if column == 0:
                    axes.text(-0.25, 0.5, label, transform=axes.transAxes, ha="right", va="center", fontsize=10)
            colour_bar = figure.colorbar(
                picture,
                ax=panels[:, column].tolist(),
                orientation="horizontal",
                shrink=0.62,
                aspect=16,
                pad=0.01,
                ticks=[-limit, 0, limit],
                format="%.2g",
            )
            colour_bar.ax.tick_params(labelsize=8)
            colour_bar.outline.set_visible(False)
        return to_png(figure), left_out
