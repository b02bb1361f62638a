"""The EEG tower: encoder and temporal transformer, trained by stage 1 and exported as a folder.

Shape suffixes: G segments, C channels, T samples, L = 1 + N tokens, E temporal dimension.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor, nn

from e2llm_core.encoders import DEFAULT_ENCODER, load_encoder
from e2llm_core.encoders.base import config_from_dict, config_to_dict
from e2llm_core.encoders.config import TowerConfig
from e2llm_core.tensors import load_strict, save_tensors
from e2llm_core.tower.temporal import TemporalTransformer
from storage.places.fetching import fetched_file

TOWER_WEIGHTS = "tower.safetensors"
TOWER_CONFIG = "tower.json"


@dataclass(frozen=True)
class EEGSettings:
    """What a segment of EEG is, for every place that reads or feeds one.

    Attributes
    ----------
    channels
        Channel names, in the order of the signal's rows.
    sfreq_hz
        Sampling rate in hertz.
    window_seconds
        Length of one segment in seconds.
    unit
        ``"mV"``, ``"uV"``, ``"V"``, or dimensionless: ``"whitened"``, ``"zscore"``.
    normalisation
        Name of the normalisation that made the signal, recorded for the reader of a model.
    adaptation
        ``"none"``, ``"causal"`` or ``"transductive-unlabelled"``: which data of the scored session it used.
    """

    channels: tuple[str, ...]
    sfreq_hz: float = 256.0
    window_seconds: float = 4.0
    unit: str = "uV"
    normalisation: str = "none"
    adaptation: str = "none"

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))
        if not float(self.window_seconds * self.sfreq_hz).is_integer():
            raise ValueError(
                f"eeg.window_seconds: {self.window_seconds} s is not a whole number of samples at "
                f"{self.sfreq_hz:g} Hz. Choose another length"
            )

    @property
    def n_times(self) -> int:
        """Samples per segment."""
        return int(self.window_seconds * self.sfreq_hz)

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON form."""
        return config_to_dict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> EEGSettings:
        """Read the JSON form, refusing unknown keys."""
        return config_from_dict(cls, values, "eeg")


class EEGTower(nn.Module):
    """Encoder plus temporal transformer.

    Parameters
    ----------
    encoder
        An `EEGEncoder` module.
    temporal
        Temporal transformer whose `d_in` is the encoder's ``n_summary * dim``.
    eeg
        The segments this tower takes.
    """

    def __init__(self, encoder: Any, temporal: TemporalTransformer, eeg: EEGSettings) -> None:
        super().__init__()
        self.encoder = encoder
        self.temporal = temporal
        self.eeg = eeg

    @classmethod
    def build(
        cls,
        eeg: EEGSettings,
        encoder: dict[str, Any] | None = None,
        temporal: dict[str, Any] | None = None,
        encoder_weights: str | Path | None = None,
    ) -> EEGTower:
        """Build a tower from plain settings.

        Parameters
        ----------
        eeg
            The segments.
        encoder
            ``{"name", ...settings of its network}``; the published size of `DEFAULT_ENCODER` where nothing is said.
        temporal
            ``{"dim", "depth", "num_heads", "max_patches", "dropout"}``, each optional.
        encoder_weights
            Pretrained encoder file, or None.
        """
        encoder_fields = dict(encoder or {})
        name = encoder_fields.pop("name", DEFAULT_ENCODER)
        module = load_encoder(name, weights=encoder_weights, config=encoder_fields)
        n_patches = module.num_patches(eeg.n_times)
        fields = {"dim": 512, "depth": 4, "num_heads": 8, "max_patches": max(n_patches, 64), "dropout": 0.0}
        unknown = sorted(set(temporal or {}) - set(fields))
        if unknown:
            raise ValueError(f"temporal: unknown keys {unknown}. Known keys are {sorted(fields)}")
        fields.update(temporal or {})
        return cls(module, TemporalTransformer(module.n_summary * module.dim, **fields), eeg)

    @property
    def dim(self) -> int:
        """Width of the output tokens."""
        return self.temporal.dim

    @property
    def num_tokens(self) -> int:
        """Tokens per segment: one CLS and one per time patch."""
        return 1 + self.encoder.num_patches(self.eeg.n_times)

    def forward(self, eeg_GCT: Tensor) -> Tensor:
        """Encode segments: (G, C, T) in the tower's settings -> (G, 1 + N, E), the CLS token first.

        Raises
        ------
        ValueError
            If the shape is not that of the tower's settings.
        """
        wanted = (len(self.eeg.channels), self.eeg.n_times)
        if eeg_GCT.ndim != 3 or tuple(eeg_GCT.shape[1:]) != wanted:
            raise ValueError(
                f"eeg: expected (segments, {wanted[0]}, {wanted[1]}), got {tuple(eeg_GCT.shape)}. "
                "Cut windows with the model's channels, sampling rate and length"
            )
        return self.temporal(self.encode(eeg_GCT))

    def encode(self, eeg_GCT: Tensor) -> Tensor:
        """Run the encoder only: (G, C, T) -> (G, N, S, D)."""
        return self.encoder(eeg_GCT, self.eeg.channels, sfreq_hz=self.eeg.sfreq_hz, unit=self.eeg.unit)

    def config_dict(self) -> dict[str, Any]:
        """Return the JSON form of the architecture: ``{"encoder", "temporal", "eeg"}``."""
        temporal = self.temporal
        return {
            "encoder": {"name": self.encoder.name, **self.encoder.config_dict()},
            "temporal": {
                "dim": temporal.dim,
                "depth": len(temporal.blocks),
                "num_heads": temporal.num_heads,
                "max_patches": temporal.max_patches,
                "dropout": temporal.dropout,
            },
            "eeg": self.eeg.to_dict(),
        }


class DescribedTower(EEGTower):
    """A tower without its weights: for models whose segments are outputs of the tower, computed beforehand.

    Parameters
    ----------
    tower
        The tower that it stands for.
    """

    def __init__(self, tower: EEGTower) -> None:
        nn.Module.__init__(self)
        self.eeg = tower.eeg
        self._dim, self._num_tokens, self._config = tower.dim, tower.num_tokens, tower.config_dict()

    @property
    def dim(self) -> int:
        """Width of the output tokens."""
        return self._dim

    @property
    def num_tokens(self) -> int:
        """Tokens per segment."""
        return self._num_tokens

    def forward(self, eeg_GCT: Tensor) -> Tensor:
        """Refuse; raises `ValueError`."""
        raise ValueError("eeg: this model was built without its tower. Give eeg_features")

    def config_dict(self) -> dict[str, Any]:
        """Return the JSON form of the architecture, as the tower does."""
        return self._config


def build_tower(config: TowerConfig, eeg: EEGSettings) -> EEGTower:
    """Make the tower that a spec describes, from its checkpoint or as it starts without one."""
    weights = None if config.weights is None else fetched_file(config.weights)
    tower = EEGTower.build(eeg, {"name": config.name, **config.architecture}, config.temporal, weights)
    if weights is None:
        config.start_new(tower.encoder)
    return tower


def save_tower(tower: EEGTower, directory: str | Path, tensors: dict[str, Tensor] | None = None) -> Path:
    """Write ``tower.safetensors`` and ``tower.json``.

    Parameters
    ----------
    tower
        The tower.
    directory
        Folder, made if absent.
    tensors
        Gathered state dict, for parameters partitioned by ZeRO-3; by default the tower's own.

    Raises
    ------
    ValueError
        If a tensor is empty, which is what a partitioned parameter looks like.
    """
    folder = Path(directory)
    folder.mkdir(parents=True, exist_ok=True)
    save_tensors(tower.state_dict() if tensors is None else tensors, folder / TOWER_WEIGHTS)
    text = json.dumps({"format": 1, **tower.config_dict()}, indent=2)
    (folder / TOWER_CONFIG).write_text(text + "\n", encoding="utf-8")
    return folder


def load_tower(directory: str | Path) -> EEGTower:
    """Read a folder written by `save_tower`, strictly.

    Raises
    ------
    ValueError
        If a file is absent or does not fit.
    """
    folder = Path(directory)
    for name in (TOWER_CONFIG, TOWER_WEIGHTS):
        if not (folder / name).is_file():
            raise ValueError(f"tower {folder}: no {name}. Give the 'model' folder of a stage-1 run")
    config = json.loads((folder / TOWER_CONFIG).read_text(encoding="utf-8"))
    eeg = EEGSettings.from_dict(config["eeg"])
    tower = EEGTower.build(eeg, encoder=config["encoder"], temporal=config["temporal"])
    tensors = load_file(folder / TOWER_WEIGHTS)
    tower.to(next(iter(tensors.values())).dtype)
    load_strict(tower, tensors, place=f"tower {folder / TOWER_WEIGHTS}")
    return tower.eval()
