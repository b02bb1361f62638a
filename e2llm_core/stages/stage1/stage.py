"""Stage 1, emotion-discriminative pretraining: the EEG tower learns to tell the classes apart."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.encoders.config import TowerConfig
from e2llm_core.stages.data import EEGData, ranks_share
from e2llm_core.stages.probe import Origin, Probe, save_probe
from e2llm_core.stages.stage1.objectives.base import Encoded, Fitted, Objective, ReadWindows
from e2llm_core.stages.stage1.objectives.classification import Classification
from e2llm_core.stages.stage1.objectives.config import Stage1Losses
from e2llm_core.stages.stage1.objectives.table import objectives
from e2llm_core.tower.tower import EEGTower, build_tower
from e2llm_core.training.flops import tower_flops
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses, LossTerm, ParameterGroup, Stage
from e2llm_core.training.world import World
from storage.sampling.order import Order
from storage.sampling.strata import Balance, training_order
from storage.splits import Side

_READ = 64


class Pretraining(nn.Module):
    """The tower with a head for each objective.

    Parameters
    ----------
    tower : EEGTower
        Tower to train.
    objectives : list of Objective
        Their heads are made in this order.
    """

    def __init__(self, tower: EEGTower, objectives: list[Objective]) -> None:
        super().__init__()
        self.tower, self._objectives = tower, objectives
        for objective in objectives:
            self.add_module(objective.head_name, objective.head(tower))

    def forward(self, eeg_BCT: Tensor, **given: Tensor) -> dict[str, Tensor]:
        """Return the predictions of all objectives by name; `given` are targets that they need for that."""
        encoded_BNSD = self.tower.encode(eeg_BCT)
        summary_BE = self.tower.temporal(encoded_BNSD)[:, 0]
        seen = Encoded(self.tower, eeg_BCT, encoded_BNSD, summary_BE, given)
        return {each.name: each.predict(self.get_submodule(each.head_name), seen) for each in self._objectives}


class Stage1(Stage):
    """Emotion-discriminative pretraining of the tower.

    Parameters
    ----------
    data : EEGData
        Store, windows and split.
    tower : TowerConfig
        Settings of the tower to train.
    losses : Stage1Losses
        Weights and settings of the objectives.
    seed : int
        Seed of the augmentations.
    balance : str
        Groups that are drawn equally often.
    """

    name = "stage1"

    def __init__(
        self, data: EEGData, tower: TowerConfig, losses: Stage1Losses, seed: int, balance: Balance = "none"
    ) -> None:
        self.data, self.tower_config, self.config, self.seed, self.balance = data, tower, losses, seed, balance
        self.fitted = Fitted(data, data.split.fitted_by_stage1, tower, losses)
        self.windows = self.fitted.windows
        chosen = [(weight, kind) for weight, kind in (*objectives(losses), *tower.objectives()) if weight]
        self.objectives: list[Objective] = [kind(self.fitted) for _, kind in chosen]
        self._weights = [weight for weight, _ in chosen]

    @property
    def scaler(self) -> QuantityScaler:
        """Spread of the measures, which the later stages' sentences need."""
        return self.fitted.scaler

    @property
    def size(self) -> int:
        """Windows of the subjects that stage 1 fits."""
        return len(self.windows)

    def order(self, seed: int) -> Order:
        """Every window once per epoch, or balanced."""
        return training_order(self.balance, self.windows.trials, np.diff(self.windows.ends, prepend=0), seed)

    def build(self) -> tuple[nn.Module, list[ParameterGroup]]:
        """Build the tower and its heads; all of it is trained, the encoder at a separate rate if the spec has one."""
        tower = build_tower(self.tower_config, self.data.settings)
        model = Pretraining(tower, self.objectives)
        encoder = list(tower.encoder.parameters())
        known = {id(parameter) for parameter in encoder}
        rest = [parameter for parameter in model.parameters() if id(parameter) not in known]
        self._flops_per_window = tower_flops(tower, backward=True)
        return model, [ParameterGroup("encoder", encoder), ParameterGroup("heads", rest)]

    def flops(self, batch: Batch) -> float:
        """FLOPs of the tower; the small heads are not counted."""
        return float(self._flops_per_window * batch.samples)

    def prepare(self, micro: MicroBatch) -> Batch:
        """Read and augment windows, and make the targets of the objectives."""
        seeds = [[self.seed, int(position)] for position in micro.positions] if self.config.augment else None
        read = ReadWindows(self.fitted, micro.ids, seeds)
        arrays = {"eeg": read.eeg, "weights": micro.weights}
        for objective in self.objectives:
            arrays |= objective.targets(read)
        own = int(micro.weights.sum())
        return Batch({name: torch.from_numpy(array) for name, array in arrays.items()}, own, own)

    def _predict(self, model: nn.Module, given: dict[str, Tensor]) -> dict[str, Tensor]:
        inputs = {name for objective in self.objectives for name in objective.inputs}
        predictions: dict[str, Tensor] = model(given["eeg"], **{name: given[name] for name in inputs})
        return predictions

    def gradient_cache(self, model: nn.Module, batches: list[Batch]) -> list[Batch]:
        """Compare windows across micro-batches; needs a second forward pass if there are several."""
        comparing = [objective for objective in self.objectives if objective.compares]
        if len(batches) == 1 or not comparing:
            return batches
        with torch.no_grad():
            found = [self._predict(model, batch.tensors) for batch in batches]
        for objective in comparing:
            batches = objective.over_step([predictions[objective.name] for predictions in found], batches)
        return batches

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Weighted sums over the micro-batch's windows."""
        given = batch.tensors
        found = self._predict(model, given)
        rows = {each.name: each.loss(found[each.name], given) for each in self.objectives}
        sums = {name: (row * given["weights"]).sum() for name, row in rows.items()}
        total = torch.stack([weight * value for weight, value in zip(self._weights, sums.values(), strict=True)]).sum()
        return Losses(total, {name: LossTerm(value, batch.num_targets) for name, value in sums.items()})

    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Metrics of the objectives on validation, reserved and fitted subjects: the gap shows overfitting."""
        split = self.data.split
        fitted = split.fitted_by_stage1
        groups = {
            "validation": split.validation,
            "reserved": split.reserved_side,
            "fitted": fitted.of(fitted.subjects[:3]),
        }
        found = {name: self._metrics(model, side, world) for name, side in groups.items() if side}
        metrics = {f"{metric}_{name}": value for name, side in found.items() for metric, value in side.items()}
        unseen = found.get("validation", found.get("reserved", found["fitted"]))["balanced_accuracy"]
        return metrics | {"score": unseen, "gap": found["fitted"]["balanced_accuracy"] - unseen}

    def _metrics(self, model: nn.Module, side: Side, world: World) -> dict[str, float]:
        windows = self.data.windows(side)
        gathered = {each: np.zeros((len(windows), each.width)) for each in self.objectives if each.width}
        for ids, own in ranks_share(len(windows), _READ, world):
            found = model(torch.from_numpy(windows.read(ids)).to(world.device))
            for each, rows in gathered.items():
                rows[ids[:own]] = found[each.name][:own].float().cpu().numpy()
        metrics: dict[str, float] = {}
        for each, rows in gathered.items():
            metrics |= each.metrics(np.array(world.sum(rows.ravel().tolist())).reshape(rows.shape), windows)
        return metrics

    def export(self, model: nn.Module, state: dict[str, Tensor], folder: Path) -> None:
        """Write the tower, and its label head and the spread of its measures as the stage's probe."""
        head = {name: state[f"{Classification.head_name}.{name}"] for name in ("weight", "bias")}
        tower = {name.removeprefix("tower."): value for name, value in state.items() if name.startswith("tower.")}
        assert isinstance(model, Pretraining)
        save_probe(folder, model.tower, tower, Probe(head, self.data.labels, self.scaler), self._origin())

    def _origin(self) -> Origin:
        """Data that this stage is trained and selected on."""
        split = self.data.split
        sides = (split.fitted_by_stage1, *split.seen[1:])
        return Origin(store_digest=self.data.store.digest, windows=self.data.config.windows, sides=sides)
