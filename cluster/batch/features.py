"""Features of a frozen tower with Ray Data: blocks of windows in, one shard of an array per block out.

The signal measures of the same windows, which stages 2 and 3 speak of, are computed along with them.
"""

from importlib.metadata import version
from pathlib import Path

import numpy as np

from cluster.batch.blocks import BlockWriter, write_missing
from cluster.batch.plans import FeaturesPlan
from cluster.resources import Resources, require_resources
from storage.features import FEATURES, FeatureManifest, Features, FeatureSource
from storage.places.fetching import fetched
from storage.store import open_store
from storage.windows import Windows

_WINDOWS_PER_BATCH = 64
_SOFTWARE = ("torch", "numpy", "tensorstore")


class FeatureWriter(BlockWriter):
    """Computes blocks of features and writes them; holds one copy of the tower.

    Parameters
    ----------
    plan : FeaturesPlan
        Absolute paths.
    place : str
        Location of the features, whose writing has begun.
    manifest : FeatureManifest
        Description of the features.
    """

    def __init__(self, plan: FeaturesPlan, place: str, manifest: FeatureManifest) -> None:
        import torch

        from e2llm_core.stages.measured import as_measured, measures_of
        from e2llm_core.tower.tower import load_tower

        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._tower = load_tower(fetched(plan.model)).to(self._device)
        self._windows = Windows(open_store(plan.store), plan.windows)
        self._measured = as_measured(self._windows)
        self._measures = measures_of(self._windows, plan.claims)
        self._features = Features(place, manifest)

    def write(self, block: int) -> None:
        """Compute and write one block."""
        self._features.write(block, *self.compute(self._features.manifest.rows(block)))

    def compute(self, numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Compute features and measures of windows.

        Returns
        -------
        values : np.ndarray
            float32 (windows, n_tokens, dim).
        measures : np.ndarray
            float32 (windows, n_quantities).
        """
        import torch

        manifest = self._features.manifest
        values = np.empty((len(numbers), *manifest.shape[1:]), dtype=np.float32)
        measures = np.empty((len(numbers), len(manifest.quantities)), dtype=np.float32)
        for start in range(0, len(numbers), _WINDOWS_PER_BATCH):
            some = numbers[start : start + _WINDOWS_PER_BATCH]
            signal = self._windows.read(some)
            same = self._measured.config == self._windows.config
            measures[start : start + len(some)] = self._measures(signal if same else self._measured.read(some))
            with torch.inference_mode():
                computed = self._tower(torch.from_numpy(signal).to(self._device))
            values[start : start + len(some)] = computed.float().cpu()
        return values, measures


def compute_features(plan: FeaturesPlan, run: str | Path, resources: Resources) -> str:
    """Compute the missing part of a plan's features in ``<run>/features.zarr``.

    A job that was killed goes on with the blocks that are not there; only those at work are computed again.

    Parameters
    ----------
    plan : FeaturesPlan
        Absolute paths.
    run : str or Path
        A folder that all nodes see, or a URL.
    resources : Resources
        `workers` blocks are worked on side by side.

    Returns
    -------
    str
        Folder or URL of the features, for `data.features` of stages 2 and 3.

    Raises
    ------
    InputError
        When windows cannot be read or features not written, after every other block is there.
    """
    require_resources(resources)
    place = f"{run}/{FEATURES}"
    features = Features.create(place, manifest_of(plan))
    features.prepare()
    write_missing(features, FeatureWriter, (plan, place, features.manifest), resources)
    features.complete()
    return place


def manifest_of(plan: FeaturesPlan) -> FeatureManifest:
    """Describe a plan's features; reads the store's tables and the tower's files, no signal."""
    from e2llm_core.stages.features import tower_digest
    from e2llm_core.stages.measured import measures_of
    from e2llm_core.tower.tower import load_tower

    windows = Windows(open_store(plan.store), plan.windows)
    model = fetched(plan.model)
    tower = load_tower(model)
    return FeatureManifest(
        source=FeatureSource.of(windows, tower_digest(model)),
        num_windows=len(windows),
        num_tokens=tower.num_tokens,
        dim=tower.dim,
        quantities=measures_of(windows, plan.claims).names,
        precision=plan.precision,
        block=plan.block,
        versions={name: version(name) for name in _SOFTWARE},
    )
