"""Ingest on Ray: one task per recording, idempotent, one bad recording does not stop the rest."""

import traceback
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cluster.progress import gather
from cluster.resources import Resources
from storage.account import Account, changes
from storage.damage import forget_damage, known_damaged
from storage.errors import InputError
from storage.ingest import described, ingest_recording
from storage.layout import LayoutConfig
from storage.places.location import locate
from storage.places.lock import only_ingest, writing
from storage.progress import Progress
from storage.readers import AnySource, RecordingRef
from storage.readers.base import Listing
from storage.recording import RecordingInfo, encode
from storage.signal import SignalConfig
from storage.store import Store, create_store, open_store
from storage.twin import TwinConfig, write_subject, write_tables
from storage.upkeep import prepare_writing, remove_leftovers, surplus

REFUSED = "refused.txt"
"""File of a run's folder: every refused recording, one line each."""
_MOST_LINES = 20
_ROUNDS = 3


@dataclass(frozen=True)
class IngestPlan:
    """Source, store and settings of an ingest: `store` is an absolute folder or a URL."""

    store: str
    dataset: str
    source: AnySource
    signal: SignalConfig
    layout: LayoutConfig
    prune: bool = False
    damaged: frozenset[str] = frozenset()
    """Recordings that are ingested again although they are unchanged; filled in by `ingest`."""


@dataclass(frozen=True)
class _Outcome:
    """Outcome for a recording: "written", "unchanged" or "refused"; `detail` is for the run's folder."""

    kind: str
    error: InputError | None = None
    detail: str = ""
    info: RecordingInfo | None = None
    """What is in the store."""


def make_twin(root: Path, config: TwinConfig) -> None:
    """Write the synthetic twin of SEED-VII below `root`, one Ray task per subject."""
    import ray

    write_tables(root, config)
    task = ray.remote(num_cpus=1)(write_subject)
    gather("twin", [task.remote(root, config, subject) for subject in config.subjects])


def ingest(plan: IngestPlan, resources: Resources, run: str | Path) -> Store:
    """Ingest every recording of a source into a store.

    Parameters
    ----------
    plan : IngestPlan
        Source, store and settings of the ingest.
    resources : Resources
        `workers` recordings are worked on side by side.
    run : str or Path
        The run's folder or URL; gets the list of refused recordings.

    Raises
    ------
    InputError
        Before any task when the store cannot be written or another ingest writes to it; after everything else is
        in when recordings were refused, naming the first.
    """
    listing = plan.source.listing()
    refs = listing.refs
    store = create_store(plan.store, dataset=plan.dataset, label_set=plan.source.label_set)
    with only_ingest(store.root) as token:
        prepare_writing(store)
        damaged = frozenset(known_damaged(store))
        print(f"[ingest] {len(refs)} recordings into {store.root}, {resources.workers} at once", flush=True)
        show_left_out(listing)
        outcomes = _work(replace(plan, damaged=damaged), token, refs, resources)
        forget_damage(store, {name for name in damaged if name in outcomes and outcomes[name].kind == "written"})
        names = [ref.recording_id for ref in refs]
        _report_surplus(store, surplus(store, names), prune=plan.prune)
        remove_leftovers(store, names)
        with store.root.writing("the index"):
            store.write_index()
    counts = Counter(outcome.kind for outcome in outcomes.values())
    _show_account(outcomes.values())
    print(f"[ingest] {', '.join(f'{counts[kind]} {kind}' for kind in ('written', 'unchanged', 'refused'))}", flush=True)
    _refuse([outcome for outcome in outcomes.values() if outcome.error], len(refs), run)
    return open_store(plan.store)


def _work(plan: IngestPlan, token: str, refs: Sequence[RecordingRef], resources: Resources) -> dict[str, _Outcome]:
    """Process all recordings; retry those whose worker died, alone, since lack of memory is the usual cause."""
    outcomes: dict[str, _Outcome] = {}
    told, left = _Told(len(refs)), list(refs)
    for number in range(_ROUNDS):
        died = []
        for ref, outcome in _outcomes(plan, token, left, resources, resources.workers if number == 0 else 1):
            outcomes[ref.recording_id] = outcome
            if outcome.kind == "died":
                died.append(ref)
            else:
                told.show(outcome)
        left = died
    for ref in left:
        outcome = outcomes[ref.recording_id] = _Outcome("refused", outcomes[ref.recording_id].error)
        told.show(outcome)
    return {ref.recording_id: outcomes[ref.recording_id] for ref in refs}


def _outcomes(
    plan: IngestPlan, token: str, refs: Sequence[RecordingRef], resources: Resources, workers: int
) -> Iterator[tuple[RecordingRef, _Outcome]]:
    """Run one task per recording, `workers` at a time."""
    import ray
    from ray import exceptions

    deaths = (exceptions.WorkerCrashedError, exceptions.OutOfMemoryError, exceptions.NodeDiedError)
    task = ray.remote(num_cpus=resources.cpus_per_worker, num_gpus=resources.gpus_per_worker, max_retries=0)(
        _ingest_one
    )
    shared = ray.put(plan)
    waiting, running = deque(refs), dict[Any, RecordingRef]()
    try:
        while waiting or running:
            while waiting and len(running) < workers:
                running[task.remote(shared, token, waiting[0])] = waiting[0]
                waiting.popleft()
            (done, *_), _ = ray.wait(list(running), num_returns=1)
            ref = running.pop(done)
            try:
                yield ref, ray.get(done)
            except deaths as error:
                problem = f"its worker died {_ROUNDS} times ({type(error).__name__})"
                remedy = "Give it more memory, for example by lowering resources.workers."
                yield ref, _Outcome("died", InputError(str(ref.path), problem, remedy))
    finally:
        for left in running:
            ray.cancel(left, force=True)


def _ingest_one(plan: IngestPlan, token: str, ref: RecordingRef) -> _Outcome:
    try:
        store = open_store(plan.store)
        with writing(store.root, token) as confirm:
            again = ref.recording_id in plan.damaged
            written = ingest_recording(store, plan.source, ref, plan.signal, plan.layout, again=again, confirm=confirm)
    except InputError as error:
        return _Outcome("refused", error)
    except Exception as error:
        return _failed(ref, error)
    return _Outcome("written" if written else "unchanged", info=store.find(ref.recording_id))


def _failed(ref: RecordingRef, error: Exception) -> _Outcome:
    """Refuse a recording whose reader failed; the error's text may contain personal data of a header."""
    frames = traceback.extract_tb(error.__traceback__)
    detail = "\n".join(f"  {frame.filename}:{frame.lineno} {frame.name}" for frame in frames)
    place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}"
    problem = f"{ref.recording_id} failed unexpectedly ({type(error).__name__} at {place})"
    return _Outcome("refused", InputError(str(ref.path), problem, "Fetch it again, or report this."), detail)


def _rehearse_one(plan: IngestPlan, ref: RecordingRef) -> _Outcome:
    """Read and prepare a recording as an ingest would, and write nothing."""
    try:
        return _Outcome("written", info=encode(*described(plan.source, ref, plan.signal))[0])
    except InputError as error:
        return _Outcome("refused", error)
    except Exception as error:
        return _failed(ref, error)


def show_left_out(listing: Listing) -> None:
    """Print the files beside a source's recordings that are not read."""
    for words in listing.left_out[:_MOST_LINES]:
        print(f"[ingest] left out: {words}", flush=True)
    if (more := len(listing.left_out) - _MOST_LINES) > 0:
        print(f"[ingest] left out: {more:,} more", flush=True)


def _show_account(outcomes: Iterable[_Outcome]) -> None:
    """Print what ingest changed or left out, now or before, and totals of what is in the store."""
    account = Account()
    for outcome in outcomes:
        if outcome.info is not None:
            account.add(outcome.info)
    if account.recordings:
        for words in account.lines(_MOST_LINES):
            print(f"[ingest] {words}", flush=True)
        print(f"[ingest] in the store: {account.total()}", flush=True)


def rehearse_ingest(plan: IngestPlan) -> int:
    """Read every recording as `ingest` would, write nothing, and print what would be stored, left out and refused.

    Returns
    -------
    int
        Number of recordings that would be refused.

    Raises
    ------
    InputError
        When the source holds no recording.
    """
    listing, account, refused = plan.source.listing(), Account(), 0
    show_left_out(listing)
    for ref in listing.refs:
        outcome = _rehearse_one(plan, ref)
        found = outcome.info
        if found is None:
            refused += 1
            print(f"[ingest] refused: {outcome.error}", flush=True)
            continue
        account.add(found)
        channels = f"{len(found.channels)} channels" if len(found.channels) > 1 else found.channels[0]
        print(
            f"[ingest] {ref.path} -> {found.recording_id}: {channels}, {found.n_times / found.sfreq_hz:,.1f} s, "
            f"{len(found.trials)} trials",
            flush=True,
        )
        for words in changes(found):
            print(f"[ingest]   {words}", flush=True)
    print(f"[ingest] {account.total()}; {refused} refused", flush=True)
    return refused


class _Told:
    """Progress, and one line for each of the first refusals."""

    def __init__(self, total: int) -> None:
        self._progress, self._done, self._refused = Progress("ingest", total), 0, 0

    def show(self, outcome: _Outcome) -> None:
        self._done += 1
        if outcome.error is not None:
            self._refused += 1
            if self._refused <= _MOST_LINES:
                print(f"[ingest] refused: {outcome.error}", flush=True)
        self._progress.show(self._done)


def _report_surplus(store: Store, names: Sequence[str], *, prune: bool) -> None:
    if not names:
        return
    shown = ", ".join(names[:_MOST_LINES]) + (", ..." if len(names) > _MOST_LINES else "")
    if prune:
        for name in names:
            store.remove_recording(name)
    done = "removed" if prune else "left as they are (prune=true removes them)"
    print(f"[ingest] {len(names)} recordings that the source does not have were {done}: {shown}", flush=True)


def _refuse(refused: Sequence[_Outcome], total: int, run: str | Path) -> None:
    """Raise the first refusal, with the number of all; their list is in the run's folder."""
    place = locate(run)
    path = f"{place}/{REFUSED}"
    place.remove(REFUSED)
    if not refused:
        return
    lines = [f"{outcome.error}\n{outcome.detail}".rstrip() + "\n" for outcome in refused]
    place.write(REFUSED, "".join(lines).encode())
    first = refused[0].error
    assert first is not None
    raise InputError(
        first.place,
        f"{first.problem} ({len(refused)} of {total} recordings refused, the rest is in the store; all in {path})",
        first.remedy,
    )
