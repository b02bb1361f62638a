"""Stage 1, emotion-discriminative pretraining: the EEG tower learns to tell the classes apart."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.metrics import balanced_accuracy_score
from torch import Tensor, nn

from e2llm_core.encoders.initialisation import fourier_start
from e2llm_core.stages.config import Stage1Config, TowerConfig
from e2llm_core.stages.contrastive import contrast_over_step, with_slope
from e2llm_core.stages.data import EEGData, ranks_share
from e2llm_core.stages.measured import MeasuredWindows
from e2llm_core.stages.probe import Origin, Probe, save_probe
from e2llm_core.stages.segments import read_augmented
from e2llm_core.tower import EEGTower
from e2llm_core.training.flops import tower_flops
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses, ParameterGroup, Part, Stage
from e2llm_core.training.world import World
from storage.fetching import fetched_file
from storage.sampling.order import Order
from storage.sampling.strata import Balance, training_order
from storage.splits import Side

_READ = 64


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
    """The tower with the heads of stage 1."""

    def __init__(self, tower: EEGTower, num_labels: int, num_measures: int, num_patch_powers: int) -> None:
        super().__init__()
        self.tower = tower
        self.label_head = nn.Linear(tower.dim, num_labels)
        self.contrast_head = nn.Linear(tower.dim, 64)
        self.measure_head = nn.Linear(tower.dim, num_measures)
        encoder = tower.encoder
        self.patch_head = nn.Linear(encoder.n_summary * encoder.dim, num_patch_powers)

    def forward(self, eeg_BCT: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return label logits, unit contrast vectors, measures, and patch powers (B, N, P)."""
        encoded_BNSD = self.tower.encode(eeg_BCT)
        summary_BE = self.tower.temporal(encoded_BNSD)[:, 0]
        contrast = F.normalize(self.contrast_head(summary_BE), dim=-1)
        return (
            self.label_head(summary_BE),
            contrast,
            self.measure_head(summary_BE),
            self.patch_head(encoded_BNSD.flatten(2)),
        )


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
        self.reference = self._measured.reference()
        measured = self._measured.windows
        self._patch_size = round(0.25 * measured.sfreq_hz)
        first = -(-len(measured) // -(-len(measured) // _READ))
        patches = self.measures.patch_powers(measured.read(np.arange(first)), self._patch_size)
        self._patch_mean, self._patch_std = patches.mean(axis=(0, 1)), patches.std(axis=(0, 1)) + 1e-6

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
        model = Pretraining(tower, len(self.data.labels), len(self.measures.quantities), len(self._patch_mean))
        encoder = list(tower.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
        self._flops_per_window = tower_flops(tower, backward=True)
        return model, [ParameterGroup("encoder", encoder), ParameterGroup("heads", rest)]

    def flops(self, batch: Batch) -> float:
        """Of the tower; the heads are small."""
        return float(self._flops_per_window * batch.samples)

    def prepare(self, micro: MicroBatch) -> Batch:
        """Read and augment windows; targets are labels, measures and patch powers of the same windows."""
        seeds = [[self.seed, int(position)] for position in micro.positions] if self.config.augment else None
        eeg, measured = read_augmented(self.windows, self._measured.windows, micro.ids, seeds)
        patches = self.measures.patch_powers(measured, self._patch_size)
        tensors = {
            "eeg": torch.from_numpy(eeg),
            "labels": torch.from_numpy(self._labels[self.windows.locate(micro.ids)[0]]),
            "measures": torch.from_numpy(self.reference.standardise(self._measured(micro.ids))),
            "patches": torch.from_numpy((patches - self._patch_mean) / self._patch_std),
            "weights": torch.from_numpy(micro.weights),
        }
        own = int(micro.weights.sum())
        return Batch(tensors, own, own)

    def look_ahead(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Compare vectors across micro-batches; needs a forward pass more where there are several."""
        if len(batches) == 1 or not self.config.contrastive:
            return batches
        with torch.no_grad():
            vectors = [model(batch.tensors["eeg"])[1] for batch in batches]
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
        logits, contrast, measures, patches = model(given["eeg"])
        weights, labels = given["weights"], given["labels"]
        known = given.get("contrast") or contrast_over_step(contrast, labels, weights, config.temperature)
        rows = {
            "classification": F.cross_entropy(logits, labels, reduction="none", label_smoothing=config.label_smoothing),
            "contrastive": with_slope(known[0], known[1], contrast),
            "measures": F.mse_loss(measures, given["measures"], reduction="none").mean(dim=1),
            "patch_powers": F.mse_loss(patches, given["patches"], reduction="none").mean(dim=(1, 2)),
        }
        scale = {"classification": 1.0} | config.model_dump(include={"contrastive", "measures", "patch_powers"})
        sums = {name: (row * weights).sum() for name, row in rows.items()}
        total = torch.stack([scale[name] * value for name, value in sums.items()]).sum()
        return Losses(total, {name: Part(value, batch.units) for name, value in sums.items()})

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
            logits = model(torch.from_numpy(windows.read(ids)).to(world.device))[0]
            votes[ids[:own]] = logits[:own].float().cpu().numpy()
        counted: np.ndarray = np.array(world.sum(votes.ravel().tolist())).reshape(votes.shape)
        return float(balanced_accuracy_score(truth, counted.argmax(axis=1)))

    def hand_on(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the tower, and its label head and reference of measures as the stage's probe."""
        head = {name: state[f"label_head.{name}"] for name in ("weight", "bias")}
        tower = {name.removeprefix("tower."): value for name, value in state.items() if name.startswith("tower.")}
        assert isinstance(model, Pretraining)
        save_probe(folder, model.tower, tower, Probe(head, self.data.labels, self.reference), self._origin())

    def _origin(self) -> Origin:
        """What this stage fits, and whom it is selected on."""
        split = self.data.split
        sides = (split.fitted_by_stage1, *split.seen[1:])
        return Origin(store_digest=self.data.store.digest, windows=self.data.config.windows, sides=sides)
