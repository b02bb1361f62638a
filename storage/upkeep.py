"""What an ingest does to a store besides writing recordings."""

from collections.abc import Collection

from storage.places.location import Folder
from storage.store import Store


def prepare_writing(store: Store) -> None:
    """Write one object that is there already, to find out whether the place takes writes.

    Raises
    ------
    InputError
        When it does not.
    """
    with store.root.writing("the store"):
        store.root.write("recordings/zarr.json", store.root.read("recordings/zarr.json"))


def remove_leftovers(store: Store, recordings: Collection[str]) -> None:
    """Remove what killed writers left: samples that no description names, files that were never renamed.

    Parameters
    ----------
    store : Store
        That nobody else writes to.
    recordings : collection of str
        The only ones looked at in an object store, since a server may have no locks and others may write the rest; in a
        folder all are.
    """
    store.root.sweep()
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
