"""Stage 1, emotion-discriminative pretraining: the EEG tower learns to tell the classes apart."""

from dataclasses import replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from sklearn.preprocessing import StandardScaler
from torch import Tensor, nn

from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.encoders.initialisation import fourier_start
from e2llm_core.stages.data import EEGData, ranks_share
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.stages.probe import Origin, Probe, save_probe
from e2llm_core.stages.segments import augmented, read_augmented
from e2llm_core.stages.stage1.contrastive import contrast_over_step, with_slope
from e2llm_core.stages.stage1.plan import Stage1Config
from e2llm_core.tower.config import TowerConfig
from e2llm_core.tower.tower import EEGTower
from e2llm_core.training.flops import tower_flops
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses, LossTerm, ParameterGroup, Stage
from e2llm_core.training.world import World
from storage.places.fetching import fetched_file
from storage.sampling.order import Order
from storage.sampling.strata import Balance, Strata, sample_of_strata, training_order
from storage.splits import Side

_READ = 64
_CONTRAST_WIDTH = 64
_FITTED = 2048
_FITTED_OF_SESSION = 4


def build_tower(config: TowerConfig, data: EEGData) -> EEGTower:
    """Make the tower for a data set's windows."""
    encoder = config.model_dump(include={"name", "dim", "depth", "num_heads", "n_summary", "mlp_ratio", "init_std"})
    temporal = {
        "dim": config.temporal_dim,
        "depth": config.temporal_depth,
        "num_heads": config.temporal_heads,
    }
    weights = None if config.weights is None else fetched_file(config.weights)
    tower = EEGTower.build(data.settings, encoder=encoder, temporal=temporal, encoder_weights=weights)
    if config.weights is None and config.start == "fourier":
        fourier_start(tower.encoder)
    return tower


class Pretraining(nn.Module):
    """The tower with a head for each loss term of stage 1.

    Parameters
    ----------
    tower : EEGTower
        What is trained.
    num_labels : int
        Classes.
    contrast, num_measures, num_patch_powers : int
        Widths of the other terms' heads; 0 for a term that is switched off, which has none.
    """

    def __init__(
        self, tower: EEGTower, num_labels: int, contrast: int = 0, num_measures: int = 0, num_patch_powers: int = 0
    ) -> None:
        super().__init__()
        self.tower = tower
        width = tower.encoder.n_summary * tower.encoder.dim
        self.label_head = nn.Linear(tower.dim, num_labels)
        self.contrast_head = nn.Linear(tower.dim, contrast) if contrast else None
        self.measure_head = nn.Linear(tower.dim, num_measures) if num_measures else None
        self.patch_head = nn.Linear(width, num_patch_powers) if num_patch_powers else None

    def forward(self, eeg_BCT: Tensor) -> dict[str, Tensor]:
        """Return label logits, unit contrast vectors, measures, and patch powers (B, N, P), by the name of the term."""
        encoded_BNSD = self.tower.encode(eeg_BCT)
        summary_BE = self.tower.temporal(encoded_BNSD)[:, 0]
        found = {"classification": self.label_head(summary_BE)}
        if self.contrast_head is not None:
            found["contrastive"] = F.normalize(self.contrast_head(summary_BE), dim=-1)
        if self.measure_head is not None:
            found["measures"] = self.measure_head(summary_BE)
        if self.patch_head is not None:
            found["patch_powers"] = self.patch_head(encoded_BNSD.flatten(2))
        return found


class Stage1(Stage):
    """Emotion-discriminative pretraining of the tower.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    tower : TowerConfig
        What is trained.
    config : Stage1Config
        Loss terms.
    seed : int
        Of the augmentations.
    balance : str
        What is drawn equally often.
    """

    name = "stage1"

    def __init__(
        self, data: EEGData, tower: TowerConfig, config: Stage1Config, seed: int, balance: Balance = "none"
    ) -> None:
        self.data, self.tower_config, self.config, self.seed, self.balance = data, tower, config, seed, balance
        self.windows = data.windows(data.split.fitted_by_stage1)
        self._labels = self.windows.trials["label_id"].to_numpy()
        self._measured = MeasuredWindows(data.measured(data.split.fitted_by_stage1))
        self.measures = self._measured.measures
        self._patch_size = round(0.25 * self._measured.windows.sfreq_hz)
        self._measure_scale = self.scaler if config.measures else None
        self._patch_scale = self._fit_patches() if config.patch_powers else None

    @cached_property
    def scaler(self) -> QuantityScaler:
        """Of the measures. The later stages' sentences need it, so it is handed on whether or not a loss uses it."""
        return self._measured.scaler()

    def _fit_patches(self) -> StandardScaler:
        """Mean and spread of patch powers over a sample of all subjects and sessions; the same on every rank."""
        windows = self._measured.windows
        sessions = windows.trials.groupby(["subject", "session"]).ngroup().to_numpy()
        strata = Strata(sessions, np.diff(windows.ends, prepend=0))
        ids = sample_of_strata(strata, _FITTED, _FITTED_OF_SESSION, seed=0)
        parts = [ids[first : first + _READ] for first in range(0, len(ids), _READ)]
        powers = [self.measures.patch_powers(windows.read(part), self._patch_size) for part in parts]
        return StandardScaler().fit(np.concatenate(powers).reshape(-1, powers[0].shape[-1]))

    @property
    def size(self) -> int:
        """Windows of the subjects that stage 1 fits."""
        return len(self.windows)

    def order(self, seed: int) -> Order:
        """Every window once per epoch, or balanced."""
        return training_order(self.balance, self.windows.trials, np.diff(self.windows.ends, prepend=0), seed)

    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """Make the tower and its heads; all of it trains, the encoder at a rate of its own if the spec says so."""
        tower = build_tower(self.tower_config, self.data)
        model = Pretraining(
            tower,
            len(self.data.labels),
            _CONTRAST_WIDTH if self.config.contrastive else 0,
            len(self.measures.quantities) if self.config.measures else 0,
            0 if self._patch_scale is None else self._patch_scale.n_features_in_,
        )
        encoder = list(tower.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
        self._flops_per_window = tower_flops(tower, backward=True)
        return model, [ParameterGroup("encoder", encoder), ParameterGroup("heads", rest)]

    def flops(self, batch: Batch) -> float:
        """Of the tower; the heads are small."""
        return float(self._flops_per_window * batch.samples)

    def prepare(self, micro: MicroBatch) -> Batch:
        """Read and augment windows; targets are labels, and measures and patch powers where their terms are on."""
        seeds = [[self.seed, int(position)] for position in micro.positions] if self.config.augment else None
        arrays = {"labels": self._labels[self.windows.locate(micro.ids)[0]], "weights": micro.weights}
        if self._patch_scale is None:
            arrays["eeg"] = augmented(self.windows.read(micro.ids), seeds)
        else:
            arrays["eeg"], measured = read_augmented(self.windows, self._measured.windows, micro.ids, seeds)
            patches = self.measures.patch_powers(measured, self._patch_size)
            rows = patches.reshape(-1, patches.shape[-1])
            arrays["patch_powers"] = self._patch_scale.transform(rows).reshape(patches.shape)
        if self._measure_scale is not None:
            arrays["measures"] = self._measure_scale.standardise(self._measured(micro.ids))
        own = int(micro.weights.sum())
        return Batch({name: torch.from_numpy(array) for name, array in arrays.items()}, own, own)

    def gradient_cache(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Compare vectors across micro-batches; needs a forward pass more where there are several."""
        if len(batches) == 1 or not self.config.contrastive:
            return batches
        with torch.no_grad():
            vectors = [model(batch.tensors["eeg"])["contrastive"] for batch in batches]
        sizes = [len(part) for part in vectors]
        labels, weights = (torch.cat([batch.tensors[key] for batch in batches]) for key in ("labels", "weights"))
        compared = contrast_over_step(torch.cat(vectors), labels, weights, self.config.temperature)
        parts = zip(*(values.split(sizes) for values in compared), strict=True)
        return [
            replace(batch, tensors=batch.tensors | {"contrast": part})
            for batch, part in zip(batches, parts, strict=True)
        ]

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Weighted sums over the micro-batch's windows."""
        given, config = batch.tensors, self.config
        found = model(given["eeg"])
        weights, labels = given["weights"], given["labels"]
        rows = {
            "classification": F.cross_entropy(
                found["classification"], labels, reduction="none", label_smoothing=config.label_smoothing
            )
        }
        if (vectors := found.get("contrastive")) is not None:
            known = given.get("contrast") or contrast_over_step(vectors, labels, weights, config.temperature)
            rows["contrastive"] = with_slope(known[0], known[1], vectors)
        for name in ("measures", "patch_powers"):
            if name in found:
                rows[name] = F.mse_loss(found[name], given[name], reduction="none").flatten(1).mean(dim=1)
        scale = {"classification": 1.0} | config.model_dump(include={"contrastive", "measures", "patch_powers"})
        sums = {name: (row * weights).sum() for name, row in rows.items()}
        total = torch.stack([scale[name] * value for name, value in sums.items()]).sum()
        return Losses(total, {name: LossTerm(value, batch.num_targets) for name, value in sums.items()})

    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Balanced accuracy on validation, reserved and fitted subjects: the gap is over-fitting."""
        split = self.data.split
        fitted = split.fitted_by_stage1
        groups = {
            "validation": split.validation,
            "reserved": split.reserved_side,
            "fitted": fitted.of(fitted.subjects[:3]),
        }
        found = {name: self._balanced_accuracy(model, side, world) for name, side in groups.items() if side}
        metrics = {f"balanced_accuracy_{name}": value for name, value in found.items()}
        unseen = found.get("validation", found.get("reserved", found["fitted"]))
        return metrics | {"score": unseen, "gap": found["fitted"] - unseen}

    def _balanced_accuracy(self, model: nn.Module, side: Side, world: World) -> float:
        windows = self.data.windows(side)
        truth = windows.table["label_id"].to_numpy()
        votes = np.zeros((len(windows), len(self.data.labels)))
        for ids, own in ranks_share(len(windows), _READ, world):
            logits = model(torch.from_numpy(windows.read(ids)).to(world.device))["classification"]
            votes[ids[:own]] = logits[:own].float().cpu().numpy()
        counted: np.ndarray = np.array(world.sum(votes.ravel().tolist())).reshape(votes.shape)
        return float(balanced_accuracy_score(truth, counted.argmax(axis=1)))

    def export(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the tower, and its label head and the spread of its measures as the stage's probe."""
        head = {name: state[f"label_head.{name}"] for name in ("weight", "bias")}
        tower = {name.removeprefix("tower."): value for name, value in state.items() if name.startswith("tower.")}
        assert isinstance(model, Pretraining)
        save_probe(folder, model.tower, tower, Probe(head, self.data.labels, self.scaler), self._origin())

    def _origin(self) -> Origin:
        """What this stage fits, and whom it is selected on."""
        split = self.data.split
        sides = (split.fitted_by_stage1, *split.seen[1:])
        return Origin(store_digest=self.data.store.digest, windows=self.data.config.windows, sides=sides)
