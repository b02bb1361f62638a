"""``e2llm verify``: every checksum of a store, and what is damaged."""

import time

from e2llm_core.training.metrics import clock
from storage.damage import verify
from storage.shards import Damage
from storage.store import RecordingInfo, open_store

_SECONDS_BETWEEN_LINES = 1.0


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
    total, started, shown, count, recordings = len(store.recordings), time.monotonic(), float("-inf"), 0, 0
    with store.root.writing("damage.json"):
        for done, (name, found) in enumerate(verify(store), start=1):
            for damage in found:
                print(f"damaged: {line(store.recordings[name], damage)}", flush=True)
            count, recordings = count + len(found), recordings + bool(found)
            now = time.monotonic()
            if done == total or now - shown >= _SECONDS_BETWEEN_LINES:
                left = (now - started) / done * (total - done)
                print(f"[verify] {done}/{total}  eta {clock(left)}", flush=True)
                shown = now
    if count:
        print(f"{store.root}: {count} damages in {recordings} of {total} recordings; see damage.json", flush=True)
    else:
        print(f"{store.root}: {total} recordings, all whole", flush=True)
    return count


def line(info: RecordingInfo, damage: Damage) -> str:
    """Recording, object, bytes, samples, seconds, problem."""
    start, stop = damage.start / info.sfreq_hz, damage.stop / info.sfreq_hz
    return f"{info.recording_id}: {damage} ({start:.2f}..{stop:.2f} s)"
