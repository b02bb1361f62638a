"""Ingest: one recording from its source into the store, idempotent and safe to kill."""

import hashlib
import json
from fractions import Fraction

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from storage.errors import InputError
from storage.readers.base import RawRecording, RecordingRef, Source, file_sha256
from storage.store import RecordingInfo, Store, Trial

PROCESSING_VERSION = 1
"""Raised when the same source and configuration would give other samples: stores are then ingested anew."""


class SignalConfig(BaseModel):
    """What is done to the signal on its way into the store."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    sfreq_hz: float = Field(256.0, ge=1, le=10_000)


def resample(signal: np.ndarray, from_hz: float, to_hz: float) -> np.ndarray:
    """Exact polyphase resampling along the last axis (200 -> 256 Hz is 32/25).

    Each row's mean is set aside and its ends are continued along its trend, so that an offset leaves no
    transient at the edges.
    """
    from scipy.signal import resample_poly

    ratio = Fraction(to_hz).limit_denominator(10_000) / Fraction(from_hz).limit_denominator(10_000)
    if ratio == 1:
        return signal
    mean = signal.mean(axis=-1, keepdims=True)
    up, down = ratio.numerator, ratio.denominator
    resampled: np.ndarray = resample_poly(signal - mean, up, down, axis=-1, padtype="line") + mean
    return resampled


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
    if not raw.segments or any(segment.signal_uv.shape[1] == 0 for segment in raw.segments):
        raise InputError(str(ref.path), "holds a trial without samples", "Fetch the file again.")
    signals = [resample(segment.signal_uv, raw.sfreq_hz, config.sfreq_hz) for segment in raw.segments]
    stops = np.cumsum([signal.shape[1] for signal in signals])
    trials = tuple(
        Trial(
            trial=segment.trial,
            position=segment.position,
            clip=segment.clip,
            start=int(stop - signal.shape[1]),
            stop=int(stop),
            label=segment.label,
            intensity=segment.intensity,
        )
        for segment, signal, stop in zip(raw.segments, signals, stops, strict=True)
    )
    info = _describe(ref, raw, config, trials, digest)
    store.write_recording(info, np.concatenate(signals, axis=1))
    return True


def _describe(
    ref: RecordingRef,
    raw: RawRecording,
    config: SignalConfig,
    trials: tuple[Trial, ...],
    digest: str,
) -> RecordingInfo:
    return RecordingInfo(
        recording_id=ref.recording_id,
        subject=ref.subject,
        session=ref.session,
        channels=raw.channels,
        sfreq_hz=config.sfreq_hz,
        n_times=trials[-1].stop,
        source_sha256=file_sha256(ref.path),
        ingest_digest=digest,
        provenance=raw.provenance | {"source_sfreq_hz": raw.sfreq_hz},
        trials=trials,
    )
