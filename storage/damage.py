"""Damage in a store: found by checking every checksum, written down, and left out of windows where the spec says so."""

import hashlib
import json
from collections.abc import Collection, Iterator

import pandas as pd
from pydantic import BaseModel, ConfigDict, ValidationError

from storage.errors import InputError
from storage.shards import Damage, DamageError, ShardedArray
from storage.store import Store

_KEY = "damage.json"


class DamageRecord(BaseModel):
    """Findings of `e2llm verify`: each recording's signal name and damaged sample ranges (stop excluded)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    signals: dict[str, str]
    ranges: dict[str, tuple[tuple[int, int], ...]]


def verify(store: Store) -> Iterator[tuple[str, list[Damage]]]:
    """Check every chunk of a store and record the damage.

    Yields
    ------
    recording_id : str
        Name of each recording, in sorted order.
    damages : list of Damage
        What is missing or does not match its checksum; empty when it is whole.
    """
    ranges: dict[str, tuple[tuple[int, int], ...]] = {}
    for name, info in store.recordings.items():
        try:
            found = list(ShardedArray.open(store.root, store.signal_key(info)).damages())
        except DamageError as error:
            found = [Damage(store.signal_key(info), 0, 0, 0, info.n_times, str(error))]
        if found:
            ranges[name] = tuple((damage.start, damage.stop) for damage in found)
        yield name, found
    signals = {name: store.recordings[name].signal for name in ranges}
    record = DamageRecord(signals=signals, ranges=ranges)
    store.root.write(_KEY, record.model_dump_json(indent=1).encode())


def damaged_ranges(store: Store) -> dict[str, list[tuple[int, int]]]:
    """Known damage by recording, for recordings that have not been ingested again since it was found.

    Raises
    ------
    InputError
        When the store was never verified, or the record cannot be read.
    """
    place = f"{store.root}/{_KEY}"
    try:
        record = DamageRecord.model_validate(json.loads(store.root.read(_KEY)))
    except FileNotFoundError as error:
        raise InputError(
            place, "`windows.damaged: skip` needs to know what is damaged", f"Run `e2llm verify {store.root}` first."
        ) from error
    except (ValueError, ValidationError) as error:
        raise InputError(place, "is damaged itself", f"Run `e2llm verify {store.root}` again.") from error
    signals = store.catalogue.set_index("recording_id")["signal"]
    return {name: sorted(ranges) for name, ranges in record.ranges.items() if signals.get(name) == record.signals[name]}


def damage_digest(store: Store) -> str:
    """SHA-256 of the known damage: what `damaged: skip` leaves out."""
    return hashlib.sha256(json.dumps(damaged_ranges(store), sort_keys=True).encode()).hexdigest()


def known_damaged(store: Store) -> set[str]:
    """Recordings found damaged and not ingested again since; none if the store was never verified."""
    return set(damaged_ranges(store)) if store.root.exists(_KEY) else set()


def forget_damage(store: Store, recordings: Collection[str]) -> None:
    """Remove recordings that were ingested again from the record."""
    if not recordings:
        return
    record = DamageRecord.model_validate_json(store.root.read(_KEY))
    kept = {
        field: {name: value for name, value in values.items() if name not in recordings}
        for field, values in record.model_dump().items()
    }
    store.root.write(_KEY, DamageRecord.model_validate(kept).model_dump_json(indent=1).encode())


def without_damage(store: Store, trials: pd.DataFrame) -> pd.DataFrame:
    """Cut known damage out of trials: one row per whole stretch, in the same order."""
    ranges = damaged_ranges(store)
    touched = trials["recording_id"].isin(list(ranges)).to_numpy()
    pieces = []
    for place in touched.nonzero()[0]:
        row = trials.iloc[[place]]
        spans = _whole(int(row["start"].iloc[0]), int(row["stop"].iloc[0]), ranges[row["recording_id"].iloc[0]])
        repeated = row.loc[row.index.repeat(len(spans))]
        pieces.append(repeated.assign(start=[start for start, _ in spans], stop=[stop for _, stop in spans]))
    if not pieces:
        return trials
    return pd.concat([trials[~touched], *pieces]).sort_index(kind="stable").reset_index(drop=True)


def _whole(start: int, stop: int, damaged: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Parts of start..stop outside of sorted damaged ranges."""
    spans = []
    for begin, end in damaged:
        if end <= start or begin >= stop:
            continue
        if begin > start:
            spans.append((start, begin))
        start = max(start, end)
    return [*spans, (start, stop)] if start < stop else spans
