"""Windows of any length, stride, channel subset and normalisation, computed from trials at read time."""

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, model_validator

from storage.damage import without_damage
from storage.errors import InputError
from storage.normalisation.rules import (
    Adaptation,
    Normalisation,
    Normaliser,
    Span,
    assert_allowed,
    assert_can_be_normalised,
    unit_of,
)
from storage.reading import SignalReader
from storage.store import Store


class WindowConfig(BaseModel):
    """How recordings are cut into windows and normalised.

    `adaptation` names what of a subject's own signal in a session may be used, never its labels: ``none``, ``causal``
    (what was recorded before) or ``transductive-unlabelled`` (all of it). The same rule is applied to models and
    baselines, and printed with each result. See `storage.normalisation.rules`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_seconds: float = Field(4.0, gt=0, le=600)
    stride_seconds: float = Field(4.0, gt=0, le=600)
    channels: tuple[str, ...] | None = None
    normalisation: Normalisation = "none"
    adaptation: Adaptation = "none"
    damaged: Literal["error", "skip"] = Field(
        "error", description="skip: leave out, and count, windows that touch what `e2llm verify` found damaged"
    )

    @model_validator(mode="after")
    def _allowed(self) -> "WindowConfig":
        if self.channels is not None and (not self.channels or len(set(self.channels)) < len(self.channels)):
            raise ValueError("channels must name at least one channel, each once")
        assert_allowed(self.normalisation, self.adaptation)
        return self

    @property
    def unit(self) -> str:
        """Unit of the samples handed out: 'uV', or dimensionless 'zscore' or 'whitened'."""
        return unit_of(self.normalisation)


class Windows:
    """The windows of some of a store's trials, numbered 0..len-1 by subject, session, trial and time.

    Nothing is kept per window: memory and opening time depend on the number of trials alone.

    Parameters
    ----------
    store : Store
        Where the recordings are.
    config : WindowConfig
        Length, stride, channels, normalisation.
    trials : pandas.DataFrame, optional
        Rows of `store.trials` to keep; all when None.
    cache_bytes : int
        Memory for decoded chunks that are kept between reads; 0 for none.

    Attributes
    ----------
    trials : pandas.DataFrame
        The trials, one row each; a trial with damage in it that is left out has one row per whole stretch.
    ends : np.ndarray
        int64 (trials,): number of windows up to and including each row.
    num_skipped : int
        Windows left out because they touch damaged samples.

    Raises
    ------
    InputError
        When recordings differ in rate, lack a channel, no trial is as long as a window, or a window is too short
        or has too few channels to be normalised.
    """

    def __init__(
        self, store: Store, config: WindowConfig, trials: pd.DataFrame | None = None, cache_bytes: int = 0
    ) -> None:
        self.store, self.config = store, config
        self.trials = (store.trials if trials is None else trials).reset_index(drop=True)
        if self.trials.empty:
            raise InputError(str(store.root), "no trial was chosen", "Name at least one subject.")
        self.sfreq_hz, self.channels = self._common_format()
        self.n_times = round(config.window_seconds * self.sfreq_hz)
        self._stride = round(config.stride_seconds * self.sfreq_hz)
        if not self.n_times or not self._stride:
            raise InputError(
                "windows",
                f"a window or stride is shorter than one sample at {self.sfreq_hz:g} Hz",
                "Raise `window_seconds` or `stride_seconds`.",
            )
        assert_can_be_normalised(config.normalisation, len(self.channels), self.n_times, self.sfreq_hz)
        self.num_skipped = 0
        if config.damaged == "skip":
            whole = without_damage(store, self.trials)
            self.num_skipped = int(self._counts(self.trials).sum() - self._counts(whole).sum())
            self.trials = whole
        self.ends = np.cumsum(self._counts(self.trials))
        if not len(self):
            raise InputError(str(store.root), f"no trial lasts {config.window_seconds} s", "Shorten `window_seconds`.")
        self._starts = self.trials["start"].to_numpy(np.int64)
        codes, names = pd.factorize(self.trials["recording_id"])
        self._recording_codes, self._recording_names = codes, names.to_numpy(dtype=object)
        self._reader = SignalReader(store, self.channels, cache_bytes)

    def _common_format(self) -> tuple[float, tuple[str, ...]]:
        catalogue = self.store.catalogue
        used = catalogue[catalogue["recording_id"].isin(self.trials["recording_id"].unique())]
        rates = sorted(used["sfreq_hz"].unique().tolist())
        if len(rates) != 1:
            raise InputError(str(self.store.root), f"sampling rates differ: {rates}", "Ingest with one `sfreq_hz`.")
        channels = self.config.channels or tuple(used["channels"].iloc[0].split(","))
        for montage, row in used.drop_duplicates("channels").set_index("channels").iterrows():
            has = str(montage).split(",")
            if missing := [name for name in channels if name not in has]:
                raise InputError(
                    str(row["recording_id"]),
                    f"has no channel {', '.join(missing)}",
                    f"Correct `windows.channels`; it has {', '.join(has)}.",
                )
        return float(rates[0]), channels

    def _counts(self, trials: pd.DataFrame) -> np.ndarray:
        lengths = (trials["stop"] - trials["start"]).to_numpy(np.int64)
        counts: np.ndarray = np.maximum(0, (lengths - self.n_times) // self._stride + 1)
        return counts

    def __len__(self) -> int:
        return int(self.ends[-1]) if len(self.ends) else 0

    def locate(self, indices: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find windows: the row of `trials` that contains each, and its first sample; both int64 (batch,).

        Raises
        ------
        IndexError
            When a number is not in 0..len-1.
        """
        indices = np.asarray(indices, dtype=np.int64)
        if indices.size and not (indices.min() >= 0 and indices.max() < len(self)):
            raise IndexError(f"window numbers must lie in 0..{len(self) - 1}")
        rows = np.searchsorted(self.ends, indices, side="right")
        first = np.where(rows > 0, self.ends[rows - 1], 0)
        return rows, self._starts[rows] + (indices - first) * self._stride

    def describe(self, indices: Sequence[int] | np.ndarray) -> pd.DataFrame:
        """Look up windows: their trials' rows, with their own `start`, `stop` (samples) and `window` number."""
        rows, start = self.locate(indices)
        table = self.trials.iloc[rows].reset_index(drop=True)
        return table.assign(window=np.asarray(indices, dtype=np.int64), start=start, stop=start + self.n_times)

    @cached_property
    def table(self) -> pd.DataFrame:
        """All windows, one row each: for evaluation-sized sets."""
        return self.describe(np.arange(len(self)))

    def read(
        self,
        indices: Sequence[int] | np.ndarray,
        out: np.ndarray | None = None,
        change: Callable[[np.ndarray], np.ndarray] | None = None,
    ) -> np.ndarray:
        """Read windows.

        Parameters
        ----------
        indices : sequence of int
            Window numbers.
        out : np.ndarray, optional
            float32 (batch, n_chans, n_times) to write into; a new one when None.
        change : callable, optional
            From the samples in µV to others of the same shape, which are then normalised; a session's own statistics
            stay those of what is stored.

        Returns
        -------
        np.ndarray
            float32 (batch, n_chans, n_times) in `config.unit`.

        Raises
        ------
        InputError
            When stored samples are missing or fail their checksum.
        """
        rows, starts = self.locate(indices)
        if out is None:
            out = np.empty((len(rows), len(self.channels), self.n_times), dtype=np.float32)
        if not len(rows):
            return out
        names = self._recording_names[self._recording_codes[rows]].tolist()
        self._reader.read(names, starts, out)
        if change is not None:
            out[:] = change(out)
        if self.config.normalisation != "none":
            out[:] = self._normaliser(out, rows, starts + self.n_times)
        return out

    @cached_property
    def _normaliser(self) -> Normaliser:
        """Normalises by the statistics of whole sessions, also of trials that are not among these."""
        trials = self.store.trials
        return Normaliser(
            self.config.normalisation,
            self.config.adaptation,
            trials=self.trials,
            all_trials=without_damage(self.store, trials) if self.config.damaged == "skip" else trials,
            sfreq_hz=self.sfreq_hz,
            n_times=self.n_times,
            read=self._read_spans,
        )

    def _read_spans(self, spans: list[Span]) -> np.ndarray:
        out = np.empty((len(spans), len(self.channels), self.n_times), dtype=np.float32)
        return self._reader.read([name for name, _, _ in spans], [start for _, start, _ in spans], out)
