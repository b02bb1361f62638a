"""Account of an ingest: how each stored recording differs from its file."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from storage.recording import RecordingInfo

_MOST_NAMES = 6
_MOST_RECORDINGS = 3


def changes(info: RecordingInfo) -> list[str]:
    """List what was cut, left out, rescaled or stored differently; empty if a recording equals its file."""
    known = info.provenance
    found = []
    if info.breaks and info.onsets_seconds:
        found.append(f"interrupted {_times(len(info.breaks))}, never joined")
    if cut := _list(info, "trials_cut"):
        found.append(f"trials cut where the signal is interrupted: {_named(cut)}")
    if outside := _list(info, "trials_outside"):
        found.append(f"trials left out, without signal: {_named(outside)}")
    if dropped := _list(info, "dropped_channels"):
        found.append(f"channels left out: {_named(dropped)}")
    if unit := known.get("stated_unit"):
        found.append(f"numbers taken for {unit}, as the spec says")
    if rate := known.get("stated_sfreq_hz"):
        found.append(f"rate of {rate:.10g} Hz taken for {known.get('source_sfreq_hz'):g} Hz")
    if off := _list(info, "off_scale"):
        found.append(f"stored as float32, samples off the scale of int16: {_named(off)}")
    return found + _list(info, "remarks")


@dataclass
class Account:
    """Counts over recordings, and how many have which change."""

    recordings: int = 0
    seconds: float = 0.0
    breaks: int = 0
    dropped: int = 0
    trials: Counter[str] = field(default_factory=Counter)
    found: dict[str, list[str]] = field(default_factory=dict)
    """Recordings by what became of them."""

    def add(self, info: RecordingInfo) -> None:
        """Count one recording."""
        self.recordings += 1
        self.seconds += info.n_times / info.sfreq_hz
        self.breaks += len(info.breaks)
        self.dropped += len(_list(info, "dropped_channels"))
        self.trials.update(trial.label or "unlabelled" for trial in info.trials)
        for change in changes(info):
            self.found.setdefault(change, []).append(info.recording_id)

    def lines(self, most: int) -> list[str]:
        """One line for each change, the most frequent first, naming the recordings."""
        often = sorted(self.found.items(), key=lambda item: -len(item[1]))
        more = len(often) - most
        told = [f"{_named(names, _MOST_RECORDINGS)}: {change}" for change, names in often[:most]]
        return [*told, *([f"... {more:,} more"] if more > 0 else [])]

    def total(self) -> str:
        """All counts in one line."""
        trials = ", ".join(f"{label} {count:,}" for label, count in sorted(self.trials.items()))
        return (
            f"{self.recordings:,} recordings, {sum(self.trials.values()):,} trials ({trials or 'none'}), "
            f"{self.seconds / 60:,.1f} minutes, {self.breaks:,} breaks, {self.dropped:,} channels dropped"
        )


def _list(info: RecordingInfo, key: str) -> list[str]:
    value = info.provenance.get(key)
    return value if isinstance(value, list) else []


def _named(names: Sequence[str], most: int = _MOST_NAMES) -> str:
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count:,} times"
