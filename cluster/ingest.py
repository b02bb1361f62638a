"""Ingest on Ray: one task per recording, idempotent, one bad recording does not stop the rest."""

from pathlib import Path

from cluster.progress import gather
from storage.errors import InputError
from storage.ingest import ingest_recording
from storage.readers import AnySource, RecordingRef
from storage.signal import SignalConfig
from storage.store import Store, create_store, open_store
from storage.twin import TwinConfig, write_subject, write_tables


def make_twin(root: Path, config: TwinConfig) -> None:
    """Write the synthetic twin of SEED-VII below `root`, one Ray task per subject."""
    import ray

    write_tables(root, config)
    task = ray.remote(num_cpus=1)(write_subject)
    gather("twin", [task.remote(root, config, subject) for subject in range(1, config.num_subjects + 1)])


def ingest(store: Path, source: AnySource, signal: SignalConfig, dataset: str) -> Store:
    """Bring every recording of a source into a store.

    Raises
    ------
    InputError
        After everything else is in, when recordings were refused; names the first.
    """
    import ray

    refs = source.list_recordings()
    opened = create_store(store, dataset=dataset, label_set=source.label_set)
    task = ray.remote(num_cpus=1)(_ingest_one)
    refused = gather("ingest", [task.remote(opened.root, source, ref, signal) for ref in refs])
    problems = [problem for problem in refused if problem is not None]
    if problems:
        raise InputError(
            problems[0].place,
            f"{problems[0].problem} ({len(problems)} of {len(refs)} recordings refused, the rest is in the store)",
            problems[0].remedy,
        )
    return open_store(store)


def _ingest_one(store: Path, source: AnySource, ref: RecordingRef, signal: SignalConfig) -> InputError | None:
    try:
        ingest_recording(open_store(store), source, ref, signal)
    except InputError as error:
        return error
    return None
