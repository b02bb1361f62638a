"""Regression of every patch's band powers by region from the encoder's tokens of that patch."""

from typing import Any

import numpy as np
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from e2llm_core.stages.stage1.objectives.base import Encoded, Fitted, Objective, ReadWindows, squared_errors
from e2llm_core.tower.tower import EEGTower
from storage.errors import InputError
from storage.sampling.strata import Strata, sample_of_strata

_SHORTEST = 0.25
"""Seconds; resolves 4 Hz, the width of the narrowest band."""

_READ = 64
_FITTED = 2048
_FITTED_OF_SESSION = 4


class PatchPowers(Objective):
    """Mean squared error of the standardised powers.

    Raises
    ------
    InputError
        If the encoder's patches are shorter than 250 ms, which resolve 4 Hz, the width of the narrowest band.
    """

    name, head_name = "patch_powers", "patch_head"

    def __init__(self, fitted: Fitted) -> None:
        super().__init__(fitted)
        if fitted.tower.contract.patch_seconds < _SHORTEST:
            raise InputError(
                "losses.patch_powers",
                f"a patch of {fitted.tower.title} lasts {fitted.tower.contract.patch_seconds:g} s, too short for them",
                "Set it to 0.",
            )
        self._patch_size = round(fitted.tower.contract.patch_seconds * fitted.measured.windows.sfreq_hz)
        self._scale = self._fit()

    def _fit(self) -> StandardScaler:
        """Mean and spread over a sample of all subjects and sessions; the same on every rank."""
        windows = self.fitted.measured.windows
        sessions = windows.trials.groupby(["subject", "session"]).ngroup().to_numpy()
        strata = Strata(sessions, np.diff(windows.ends, prepend=0))
        ids = sample_of_strata(strata, _FITTED, _FITTED_OF_SESSION, seed=0)
        parts = [ids[first : first + _READ] for first in range(0, len(ids), _READ)]
        powers = [self._powers(windows.read(part)) for part in parts]
        return StandardScaler().fit(np.concatenate(powers).reshape(-1, powers[0].shape[-1]))

    def _powers(self, measured: np.ndarray) -> np.ndarray:
        return self.fitted.measured.measures.patch_powers(measured, self._patch_size)

    def head(self, tower: EEGTower) -> nn.Module:
        """Map a patch's tokens to a number for each band and region."""
        return nn.Linear(tower.encoder.n_summary * tower.encoder.dim, self._scale.n_features_in_)

    def predict(self, head: nn.Module, seen: Encoded) -> Tensor:
        """Standardised powers (B, N, regions * bands)."""
        powers: Tensor = head(seen.encoded_BNSD.flatten(2))
        return powers

    def targets(self, windows: ReadWindows) -> dict[str, np.ndarray]:
        """Standardised powers of the augmented signal."""
        patches = self._powers(windows.measured)
        rows = patches.reshape(-1, patches.shape[-1])
        return {"patch_powers": self._scale.transform(rows).reshape(patches.shape)}

    def loss(self, prediction: Tensor, given: dict[str, Any]) -> Tensor:
        """Mean over patches, bands and regions."""
        return squared_errors(prediction, given["patch_powers"])
