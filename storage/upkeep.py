"""What an ingest does to a store besides writing recordings."""

from collections.abc import Collection

from storage.places.base import Location
from storage.places.folder import Folder
from storage.store import Store

_PARTIAL = ("zarr.json.*.partial", "index/*.partial", "recordings/*.partial", "recordings/*/*.partial")


def prepare_writing(store: Store) -> None:
    """Rewrite an existing object, to test whether the place is writable.

    Raises
    ------
    InputError
        When it does not.
    """
    with store.root.writing("the store"):
        store.root.write("recordings/zarr.json", store.root.read("recordings/zarr.json"))


def remove_leftovers(store: Store, recordings: Collection[str]) -> None:
    """Remove leftovers of killed writers: samples without a description, files that were never renamed.

    Parameters
    ----------
    store : Store
        That nobody else writes to.
    recordings : collection of str
        The only ones looked at in an object store, since a server may have no locks and others may write the rest; in a
        folder all are.
    """
    _sweep(store.root)
    for name in store.root.folders("recordings"):
        if not isinstance(store.root, Folder) and name not in recordings:
            continue
        folder, info = f"recordings/{name}", store.find(name)
        if info is None:
            store.root.remove(folder)
            continue
        for below in store.root.folders(folder):
            if below != info.signal:
                store.root.remove(f"{folder}/{below}")


def surplus(store: Store, recordings: Collection[str]) -> list[str]:
    """Visible recordings that are not among `recordings`."""
    known = set(recordings)
    return [name for name in store.root.folders("recordings") if name not in known and store.find(name) is not None]


def _sweep(root: Location) -> None:
    """Remove the first names of files that were never renamed; an object is there as a whole or not at all."""
    if isinstance(root, Folder):
        for pattern in _PARTIAL:
            for path in root.path.glob(pattern):
                path.unlink(missing_ok=True)
