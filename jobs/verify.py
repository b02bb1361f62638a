"""``e2llm verify``: every checksum of a store, and what is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from storage.damage import verify
from storage.errors import InputError
from storage.export.mne_objects import read_uv
from storage.ingest import described
from storage.progress import Progress
from storage.recording import encode
from storage.shards import Damage
from storage.store import RecordingInfo, open_store

if TYPE_CHECKING:
    from cluster.batch.ingest import IngestPlan

_MOST_CHARACTERS = 120


def verify_store(place: str) -> int:
    """Check a store, print each damage in one line, and write ``damage.json`` into it.

    Returns
    -------
    int
        Number of damages.

    Raises
    ------
    InputError
        When there is no store, or ``damage.json`` cannot be written.
    """
    store = open_store(place)
    total, count, recordings = len(store.recordings), 0, 0
    progress = Progress("verify", total)
    with store.root.writing("damage.json"):
        for done, (name, found) in enumerate(verify(store), start=1):
            for damage in found:
                print(f"damaged: {line(store.recordings[name], damage)}", flush=True)
            count, recordings = count + len(found), recordings + bool(found)
            progress.show(done)
    if count:
        print(f"{store.root}: {count} damages in {recordings} of {total} recordings; see damage.json", flush=True)
    else:
        print(f"{store.root}: {total} recordings, all whole", flush=True)
    return count


def compare_with_source(place: str, plan: IngestPlan) -> int:
    """Read the source of every recording of a store again, and print where the store says otherwise.

    This finds what earlier versions are known to have got wrong: joined pauses, lost trials, coarse steps.

    Returns
    -------
    int
        Number of recordings that differ.
    """
    store, wrong = open_store(place), 0
    refs = {ref.recording_id: ref for ref in plan.source.listing().refs}
    for name, info in store.recordings.items():
        if name not in refs:
            found = ["is not in the source"]
        else:
            try:
                found = differences(info, read_uv(store, info), *described(plan.source, refs[name], plan.signal))
            except InputError as error:
                found = [f"its source would be refused: {error}"]
        wrong += bool(found)
        for words in found:
            print(f"differs: {name}: {words}", flush=True)
    print(f"{store.root}: {wrong} of {len(store.recordings)} recordings differ from the source", flush=True)
    return wrong


def differences(info: RecordingInfo, stored_uv: np.ndarray, fresh: RecordingInfo, signal_uv: np.ndarray) -> list[str]:
    """Say in what a stored recording is not what its source gives now."""
    found = []
    for what, mine, theirs in (
        ("channels", info.channels, fresh.channels),
        ("sampling rate", info.sfreq_hz, fresh.sfreq_hz),
        ("samples", info.n_times, fresh.n_times),
        ("breaks at samples", info.breaks, fresh.breaks),
        ("trials", _trials(info), _trials(fresh)),
    ):
        if mine != theirs:
            found.append(f"{what}: {_short(mine)}, the source gives {_short(theirs)}")
    if stored_uv.shape == signal_uv.shape and info.channels == fresh.channels:
        finest = np.array(encode(fresh, signal_uv)[0].scale_uv)
        step = np.where(finest == 1.0, np.maximum(1e-3, 1e-6 * np.abs(signal_uv).max(axis=1)), 0.51 * finest)
        off = (np.abs(stored_uv - signal_uv) > step[:, None]).sum(axis=1)
        found += [f"{info.channels[row]}: {off[row]:,} samples are off" for row in np.flatnonzero(off)]
    return found


def _trials(info: RecordingInfo) -> list[tuple[str | None, int, int]]:
    return [(trial.label, trial.start, trial.stop) for trial in info.trials]


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= _MOST_CHARACTERS else text[:_MOST_CHARACTERS] + " ..."


def line(info: RecordingInfo, damage: Damage) -> str:
    """Recording, object, bytes, samples, seconds, problem."""
    start = info.seconds_at(damage.start)
    stop = start + (damage.stop - damage.start) / info.sfreq_hz
    return f"{info.recording_id}: {damage} ({start:.2f}..{stop:.2f} s)"
