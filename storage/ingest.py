"""Ingest: one recording from its source into the store, idempotent and safe to kill."""

import hashlib
import json
from collections.abc import Callable

import numpy as np

from storage.errors import InputError
from storage.layout import LayoutConfig
from storage.quality.measures import measure
from storage.readers.base import RawRecording, RecordingRef, Source, assert_there, file_sha256
from storage.signal import SignalConfig
from storage.signal.prepare import prepare
from storage.store import RecordingInfo, Store, Trial

PROCESSING_VERSION = 4
"""Increased when the same source and configuration would give other samples, so that stores are ingested again."""


def ingest_digest(source: Source, ref: RecordingRef, config: SignalConfig) -> str:
    """Identity of one ingest: its files' bytes, its reader and its processing."""
    hashes = [file_sha256(path) for path in source.files_of(ref)]
    place = [ref.recording_id, ref.subject, ref.session, ref.position]
    read_as = source.model_dump(mode="json", exclude={"root"})
    text = json.dumps([PROCESSING_VERSION, hashes, place, read_as, config.model_dump()], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def ingest_recording(
    store: Store,
    source: Source,
    ref: RecordingRef,
    config: SignalConfig,
    layout: LayoutConfig | None = None,
    *,
    again: bool = False,
    confirm: Callable[[], None] = lambda: None,
) -> bool:
    """Bring one recording into the store; one that is there already only if it changed, or `again` is set.

    `confirm` raises when the store is no longer this writer's (:func:`storage.places.lock.writing`).

    Returns
    -------
    bool
        False when an identical ingest is in the store already.

    Raises
    ------
    InputError
        When the source is missing, cannot be read, holds no trial or one without samples, or its amplitudes are
        not those of EEG in µV.
    """
    layout = layout or LayoutConfig()
    _assert_files(source, ref)
    digest = ingest_digest(source, ref, config)
    known = store.find(ref.recording_id)
    if known is not None and not again and (known.ingest_digest, known.layout) == (digest, layout):
        return False
    info, signal_uv = described(source, ref, config)
    store.write_recording(info.model_copy(update={"layout": layout, "ingest_digest": digest}), signal_uv, confirm)
    return True


def described(source: Source, ref: RecordingRef, config: SignalConfig) -> tuple[RecordingInfo, np.ndarray]:
    """Read one recording and prepare it for the store, without writing it.

    Returns
    -------
    info : RecordingInfo
        Description of the recording, without what is known only after writing.
    signal_uv : np.ndarray
        (n_chans, n_times) in µV.

    Raises
    ------
    InputError
        As of `ingest_recording`.
    """
    _assert_files(source, ref)
    raw = source.read(ref)
    if not raw.trials or any(trial.start >= trial.stop for trial in raw.trials):
        raise InputError(str(ref.path), "holds no trial, or one without samples", "Fetch the file again.")
    quality = measure(raw.pieces, raw.channels, raw.sfreq_hz, bads=raw.bads, place=str(ref.path))
    ready = prepare(raw, config, quality=quality, place=str(ref.path))
    info = _describe(ref, ready).model_copy(update={"precision": config.precision, "quality": quality})
    return info, np.concatenate(ready.pieces, axis=1)


def _assert_files(source: Source, ref: RecordingRef) -> None:
    for path in source.files_of(ref):
        assert_there(path)
        if not path.exists():
            raise InputError(str(path), "no such file", "Fetch it, or correct `source.root`.")


def _describe(ref: RecordingRef, raw: RawRecording) -> RecordingInfo:
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
        breaks=tuple(starts[1:-1].tolist()),
        onsets_seconds=raw.onsets,
        source_sha256=file_sha256(ref.path),
        ingest_digest="",
        provenance=raw.provenance,
        trials=trials,
    )
