"""The linear map by which a worded projector reads signal quantities from the tower's tokens, fitted in closed form."""

import numpy as np
import torch
from sklearn.linear_model import RidgeCV
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from e2llm_core.model.projector import pooled
from e2llm_core.stages.language import ClaimedWindows
from e2llm_core.tower.tower import EEGTower
from storage.sampling.order import Permutation

MOST_WINDOWS = 4096
"""Training windows that the map is fitted to; of more, a fixed random sample."""

_READ = 64
_PENALTIES = tuple(np.logspace(-1, 3, 9))


@torch.no_grad()
def fitted_reading(tower: EEGTower, source: ClaimedWindows, seed: int) -> tuple[Tensor, Tensor]:
    """Ridge regression of windows' standardised measures on their `pooled` tower tokens.

    The penalty is chosen by leave-one-out cross-validation within these windows. Every rank fits the same map.

    Parameters
    ----------
    tower : EEGTower
        Frozen; not run where the source reads cached features.
    source : ClaimedWindows
        Windows to fit to.
    seed : int
        Of the sample.

    Returns
    -------
    weight : Tensor
        float32 (quantities, 2 * width).
    bias : Tensor
        float32 (quantities,).
    """
    count = len(source)
    ids = np.arange(count) if count <= MOST_WINDOWS else Permutation(count, seed)(np.arange(MOST_WINDOWS))
    tokens, measures = [], []
    for part in np.array_split(np.sort(ids), -(-len(ids) // _READ)):
        segments = torch.from_numpy(source.segments.read(part))
        tokens.append(pooled(segments if source.segments.key == "eeg_features" else tower(segments)).float().numpy())
        measures.append(source.deviations(part))
    scaler = StandardScaler()
    scaled = scaler.fit_transform(np.concatenate(tokens).astype(np.float64))
    ridge = RidgeCV(alphas=_PENALTIES).fit(scaled, np.concatenate(measures))
    weight = ridge.coef_ / scaler.scale_
    bias = ridge.intercept_ - weight @ scaler.mean_
    return torch.from_numpy(weight).float(), torch.from_numpy(bias).float()
