"""What can be measured depends on the channels: their regions, and which of them see the eyes."""

import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from storage.signal.channels import REGIONS, region_of

_FRONTOPOLAR = re.compile(r"(FP|AFP|AF|AFF)(\d+|Z)H?")


@dataclass(frozen=True)
class Montage:
    """Channels, by canonical name, in the order of the signal."""

    channels: tuple[str, ...]

    @cached_property
    def regions(self) -> tuple[str, ...]:
        """The regions that have channels, in the order of `REGIONS`."""
        there = {region_of(name) for name in self.channels}
        return tuple(region for region in REGIONS if region in there)

    @cached_property
    def average(self) -> np.ndarray:
        """float32 (regions, n_chans): weights of the mean over a region's channels."""
        own = np.array([region_of(name) for name in self.channels])
        members = np.stack([own == region for region in self.regions]).astype(np.float32)
        weights: np.ndarray = members / members.sum(axis=1, keepdims=True)
        return weights

    @cached_property
    def frontopolar(self) -> np.ndarray:
        """Positions of the channels next to the eyes: FP and AF rows; empty where there are none."""
        return np.flatnonzero([_FRONTOPOLAR.fullmatch(name) is not None for name in self.channels])
