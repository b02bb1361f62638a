"""Ingest: one recording from its source into the store, idempotent and safe to kill."""

import hashlib
import json

import numpy as np

from storage.errors import InputError
from storage.readers.base import RawRecording, RecordingRef, Source, file_sha256
from storage.signal import SignalConfig, prepare
from storage.store import RecordingInfo, Store, Trial

PROCESSING_VERSION = 1
"""Raised when the same source and configuration would give other samples: stores are then ingested anew."""


def ingest_digest(source: Source, ref: RecordingRef, config: SignalConfig) -> str:
    """Identity of one ingest: the bytes of all its files, how they are read, what is done to them."""
    hashes = [file_sha256(path) for path in source.files_of(ref)]
    place = [ref.recording_id, ref.subject, ref.session, ref.position]
    read_as = source.model_dump(mode="json", exclude={"root"})
    text = json.dumps([PROCESSING_VERSION, hashes, place, read_as, config.model_dump()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def ingest_recording(store: Store, source: Source, ref: RecordingRef, config: SignalConfig) -> bool:
    """Bring one recording into the store.

    Returns
    -------
    bool
        False when an identical ingest is in the store already.

    Raises
    ------
    InputError
        When the source is missing, cannot be read or holds a segment without samples.
    """
    for path in source.files_of(ref):
        if not path.is_file():
            raise InputError(str(path), "no such file", "Fetch it, or correct `source.root`.")
    digest = ingest_digest(source, ref, config)
    known = store.find(ref.recording_id)
    if known is not None and known.ingest_digest == digest:
        return False
    raw = source.read(ref)
    if not raw.trials or any(trial.start >= trial.stop for trial in raw.trials):
        raise InputError(str(ref.path), "holds a trial without samples", "Fetch the file again.")
    ready = prepare(raw, config)
    store.write_recording(_describe(ref, ready, digest), np.concatenate(ready.pieces, axis=1))
    return True


def _describe(ref: RecordingRef, raw: RawRecording, digest: str) -> RecordingInfo:
    starts = np.cumsum([0, *(piece.shape[1] for piece in raw.pieces)])
    trials = tuple(
        Trial(
            trial=span.trial,
            position=span.position,
            clip=span.clip,
            start=int(starts[span.piece]) + span.start,
            stop=int(starts[span.piece]) + span.stop,
            label=span.label,
            intensity=span.intensity,
        )
        for span in raw.trials
    )
    return RecordingInfo(
        recording_id=ref.recording_id,
        subject=ref.subject,
        session=ref.session,
        channels=raw.channels,
        sfreq_hz=raw.sfreq_hz,
        n_times=int(starts[-1]),
        source_sha256=file_sha256(ref.path),
        ingest_digest=digest,
        provenance=raw.provenance,
        trials=trials,
    )
