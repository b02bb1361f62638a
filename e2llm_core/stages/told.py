"""What a worded projector tells of windows: the claims that training dialogues make about them are chosen from it."""

import copy

import numpy as np
import torch
from torch import nn

from e2llm_core.model.projector import LinearReading
from e2llm_core.stages.segments import Segments

_READ = 64


class Told:
    """Reads windows as a worded projector does, each once: on the CPU, with a copy of the tower.

    Parameters
    ----------
    tower : nn.Module
        Frozen; not run where cached features are read.
    reading : LinearReading
        The projector's.
    """

    def __init__(self, tower: nn.Module, reading: LinearReading) -> None:
        self._tower, self._reading = copy.deepcopy(tower).cpu().eval(), copy.deepcopy(reading).cpu()

    @torch.no_grad()
    def of(self, segments: Segments, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is told of windows, in its order.

        Returns
        -------
        places : np.ndarray
            int64 (windows, told): which quantities.
        above : np.ndarray
            bool (windows, told): whether as above their reference.
        """
        places, above = [], []
        for part in np.array_split(windows, -(-len(windows) // _READ)):
            read = torch.from_numpy(segments.read(part))
            tokens = read if segments.key == "eeg_features" else self._tower(read)
            readings = self._reading(tokens.float())
            told = self._reading.told(tokens.float(), readings)
            places.append(told.numpy())
            above.append((readings.gather(1, told) > 0).numpy())
        return np.concatenate(places), np.concatenate(above)
