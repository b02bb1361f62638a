"""Stages 2 and 3: what they share, which is dialogues about segments and a next-token loss on the answers."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from e2llm_core.claims.kind import Quantity
from e2llm_core.claims.measures import QuantityScaler
from e2llm_core.llm.attention import choose_attention
from e2llm_core.llm.packed_attention import attend_packed
from e2llm_core.llm.packing import TokenSample, pack, packed_row, sample_of_token
from e2llm_core.llm.supervision import next_tokens
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration, placeholder_places
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.model.projector import LinearReading
from e2llm_core.stages.config import LanguageTrainConfig
from e2llm_core.stages.corpus.reading import WrittenDialogues
from e2llm_core.stages.corpus.source import open_corpus
from e2llm_core.stages.data import EEGData
from e2llm_core.stages.probe import copy_probe
from e2llm_core.stages.samples import Sample, TokenizedSample
from e2llm_core.stages.told import Told
from e2llm_core.tasks.circumplex import affects_of
from e2llm_core.tasks.dialogue import EEGForm, Sampler
from e2llm_core.tasks.facts import CLAIMS_OF_A_LIST, ClaimChoice, SegmentFacts
from e2llm_core.tower.tower import TOWER_WEIGHTS, DescribedTower, EEGTower, load_tower
from e2llm_core.training.config import TrainConfig
from e2llm_core.training.flops import CompositeFlops
from e2llm_core.training.sharding import MicroBatch
from e2llm_core.training.stage import Batch, Losses, LossTerm, Stage
from e2llm_core.training.world import World
from storage.sampling.order import Order
from storage.sampling.strata import training_order
from storage.splits import Side

_VALIDATION_SAMPLES = 128


class ClaimedWindows:
    """Windows of one side of the split with their labels, and the claims that hold for each."""

    def __init__(
        self,
        data: EEGData,
        side: Side,
        scaler: QuantityScaler,
        choice: ClaimChoice | None = None,
        towards: np.ndarray | None = None,
    ) -> None:
        self.windows = data.windows(side)
        self.segments = data.segments(side)
        self._scaler = scaler
        self._measured = data.measured_windows(side)
        self.labels = data.labels
        self._label_of_trial = self.windows.trials["label"].to_numpy()
        self._samplers: dict[str, Sampler] = {}
        self.told: Told | None = None
        self._kept: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self._choice, self._towards = choice or ClaimChoice(), towards
        self._affects = affects_of(self.labels, "train.claims.affect") if self._choice.affect else None

    def __len__(self) -> int:
        return len(self.windows)

    def label(self, window: int) -> str:
        """Label of a window."""
        return str(self._label_of_trial[self.windows.locate([window])[0][0]])

    def sampler(self, task: EEGForm) -> Sampler:
        """How a task draws its dialogues from these windows."""
        if task.name not in self._samplers:
            self._samplers[task.name] = task.sampler(self.windows)
        return self._samplers[task.name]

    def deviations(self, windows: Sequence[int] | np.ndarray) -> np.ndarray:
        """Standardised signal measures (windows, quantities); many at a time cost less than one by one."""
        return self._scaler.standardise(self._measured(np.asarray(windows)))

    def tell(self, windows: Sequence[int] | np.ndarray) -> None:
        """Read what is told of windows, if anything is; many at a time cost less than one by one."""
        if self.told is None:
            return
        missing = np.array([window for window in dict.fromkeys(windows) if window not in self._kept], dtype=np.int64)
        if len(missing):
            read = zip(*self.told.of(self.segments, missing), strict=True)
            self._kept |= dict(zip(missing.tolist(), read, strict=True))

    def _told_of(self, window: int) -> tuple[np.ndarray, np.ndarray]:
        self.tell([window])
        return self._kept[window]

    @property
    def quantities(self) -> tuple[Quantity, ...]:
        """What is measured."""
        return self._measured.measures.quantities

    def facts(self, window: int) -> SegmentFacts:
        """What was measured in a window, with its label and its claims."""
        label, deviations = self.label(window), self.deviations([window])[0]
        towards = None if self._towards is None else self._towards[self.labels.index(label)]
        reference, reliability = self._measured.reference, self._scaler.reliability
        if self.told is None:
            claims = self._choice.claims(self.quantities, deviations, towards, reliability, reference)
            listed = self._choice.claims(self.quantities, deviations, None, reliability, reference, CLAIMS_OF_A_LIST)
        else:
            told, above = self._told_of(window)
            claims = self._choice.of_told(self.quantities, deviations, told, above, reference)
            listed = self._choice.of_told(self.quantities, deviations, told, above, reference, CLAIMS_OF_A_LIST)
        affect = None if self._affects is None else self._affects[self.labels.index(label)]
        return SegmentFacts(label, claims, listed, self._choice.wording, affect)


class LanguageStage(Stage):
    """A stage of the composite model: the tower is frozen, answers are supervised.

    Parameters
    ----------
    data : EEGData
        Store, windows and split. All training subjects are seen, also those that stage 1 did not fit.
    scaler : QuantityScaler
        Stage 1's spread of the signal measures.
    train : LanguageTrainConfig
        For seed, balance and the bounds of a forward pass.
    model : Path
        Model directory that the stage starts from.
    tasks : sequence of str
        Names of the tasks that it trains, of which each has a loss of its own in the metrics.
    """

    processor: E2LLMProcessor
    arithmetic: CompositeFlops

    def __init__(
        self, data: EEGData, scaler: QuantityScaler, train: LanguageTrainConfig, model: Path, tasks: Sequence[str]
    ) -> None:
        self.data, self.scaler, self.train = data, scaler, train
        self.start, self.tasks = model, tuple(dict.fromkeys(tasks))
        self.towards = means_for(train.claims, data, scaler)
        self.training = self._claimed(data.split.train)
        self._written: WrittenDialogues | None = None
        if corpus := open_corpus(data, self.name, model):
            self._written = WrittenDialogues(corpus, self.training.windows, self.tasks)
            self.tasks = self._written.tasks

    @cached_property
    def validation(self) -> ClaimedWindows:
        """Windows of the validation side (of the training side where the split has none)."""
        return self._claimed(self.data.split.validation or self.data.split.train)

    def _claimed(self, side: Side) -> ClaimedWindows:
        return ClaimedWindows(self.data, side, self.scaler, self.train.claims, self.towards)

    @abstractmethod
    def reading(self) -> LinearReading | None:
        """The maps of a worded projector, without the language model; None for other projectors."""

    def tell(self, tower: EEGTower, reading: LinearReading) -> None:
        """From now on, claims are chosen from what a worded projector tells."""
        self.training.told = self.validation.told = Told(tower, reading)

    def tell_without_llm(self) -> None:
        """The same before, or without, `build`: for whoever only draws."""
        if reading := self.reading():
            self.tell(load_tower(self.start), reading)

    @property
    def repeats(self) -> int:
        """Samples per window: sample ``r * len(training) + window`` is repeat r of a window."""
        return 1

    @property
    def size(self) -> int:
        """Samples per epoch: one of every share per window, or the rows of the corpus."""
        return self._written.size if self._written else len(self.training) * self.repeats

    def order(self, seed: int) -> Order:
        """Every sample once per epoch, or balanced; a corpus as it is written."""
        return self._written.order(seed) if self._written else self._order(self.training, seed, self.repeats)

    def _order(self, source: ClaimedWindows, seed: int, repeats: int) -> Order:
        windows = source.windows
        return training_order(self.train.balance, windows.trials, np.diff(windows.ends, prepend=0), seed, repeats)

    def windows_with_claims(self, ids: np.ndarray) -> np.ndarray:
        """Windows of some samples whose claims will be needed, so that they are read together."""
        return ids % len(self.training)

    @abstractmethod
    def draw(self, source: ClaimedWindows, number: int, rng: np.random.Generator) -> Sample:
        """Sample `number` of an epoch over `source`: ``r * len(source) + window`` is repeat r of a window."""

    def flops(self, batch: Batch) -> float:
        """FLOPs of the language model, the projector and, if it runs, the tower."""
        return self.arithmetic(batch.tensors)

    def batches(self, ids: np.ndarray, first_position: int, config: TrainConfig, world: World) -> list[Batch]:
        """Rows packed from the whole global batch and distributed to the ranks; a rank reads only its own rows' EEG."""
        mine = np.arange(world.rank, len(ids), world.size)
        tokenized = dict(zip(mine.tolist(), self.tokenize(ids[mine], first_position + mine), strict=True))
        lengths = shared_lengths([len(sample.tokens) for sample in tokenized.values()], len(ids), world)
        shares = pack(lengths, config.micro_tokens, config.micro_batch, world.size)
        shortest = int(np.argmin(lengths))
        wanted = [sorted({place for row in rows for place in row or [shortest]}) for rows in shares]
        samples = self._dealt(tokenized, wanted, first_position, world)
        filler = [samples[shortest].without_weight()] if [] in shares[world.rank] else []
        return [self.row(self.training, [samples[place] for place in row] or filler) for row in shares[world.rank]]

    def _dealt(
        self, tokenized: dict[int, TokenizedSample], wanted: list[list[int]], first_position: int, world: World
    ) -> dict[int, TokenizedSample]:
        """Send each sample only to the rank that packs it; a rank keeps its own."""
        others = [place for place in wanted[world.rank] if place not in tokenized]
        empty = np.zeros(0, dtype=np.int32)
        parcels = [
            np.concatenate([empty, *(tokenized[place].numbers() for place in places if place in tokenized)])
            if rank != world.rank
            else empty
            for rank, places in enumerate(wanted)
        ]
        found = dict(tokenized)
        for rank, parcel in enumerate(world.deal_beside(parcels)):
            for place in [place for place in others if place % world.size == rank]:
                found[place], parcel = TokenizedSample.of_numbers(parcel)
        return found

    def prepare(self, micro: MicroBatch) -> Batch:
        """The samples as one packed row."""
        tokenized = self.tokenize(micro.ids, micro.positions)
        counted = [s if weight else s.without_weight() for s, weight in zip(tokenized, micro.weights, strict=True)]
        return self.row(self.training, counted)

    def tokenize(self, ids: np.ndarray, positions: np.ndarray) -> list[TokenizedSample]:
        """Draw dialogues of the training side, or read them from the corpus, and tokenise them."""
        samples = self._written.samples(ids) if self._written else self.drawn(ids, positions)
        return [TokenizedSample(self._tokens(sample), sample.windows) for sample in samples]

    def drawn(self, ids: np.ndarray, positions: np.ndarray) -> list[Sample]:
        """Draw dialogues of the training side.

        Parameters
        ----------
        ids : np.ndarray
            Samples (n,) of an epoch.
        positions : np.ndarray
            Their places (n,) in the order of training; with the seed, these decide what is drawn.
        """
        if len(claimed := self.windows_with_claims(ids)):
            self.training.deviations(claimed)
            self.training.tell(claimed.tolist())
        return [
            self.draw(self.training, number, np.random.default_rng([self.train.seed, position]))
            for number, position in zip(ids.tolist(), positions.tolist(), strict=True)
        ]

    def _tokens(self, sample: Sample) -> TokenSample:
        dialogue = sample.dialogue
        prompt, target = self.processor.tokenize(dialogue.messages(), dialogue.answer, dialogue.thinking)
        counts = np.ones(len(target))
        if self.train.counts == "answers":
            counts = counts_of_answers(self.processor.number_answers(dialogue.answer, dialogue.thinking))
        weights = np.concatenate([np.zeros(len(prompt)), counts]).astype(np.float32)
        return TokenSample(np.array(prompt + target), weights, sample.task)

    def row(self, source: ClaimedWindows, samples: Sequence[TokenizedSample]) -> Batch:
        """Read the samples' segments, or their features; pack their tokens, and index both.

        Raises
        ------
        ValueError
            If the tokens have not one run of placeholders for each segment.
        """
        ids = np.array([window for sample in samples for window in sample.windows])
        segments = torch.from_numpy(source.segments.read(ids))
        counted = [sample.tokens for sample in samples if sample.tokens.num_targets]
        tensors = packed_row([sample.tokens for sample in samples]) | {source.segments.key: segments}
        token, each = self.processor.eeg_ids["eeg_token_id"], self.processor.num_eeg_tokens
        tensors["eeg_places"] = placeholder_places(tensors["input_ids"], token, len(ids), each)
        num_targets = sum(tokens.num_targets for tokens in counted)
        tensors["task_targets"] = [sum(s.num_targets for s in counted if s.task == n) for n in range(len(self.tasks))]
        return Batch(tensors, num_targets, len(counted), sum(len(tokens) for tokens in counted))

    def losses(self, model: nn.Module, batch: Batch) -> Losses:
        """Negative log-likelihood summed over supervised tokens, in all and for each task; waits for no GPU."""
        given = dict(batch.tensors)
        tasks, targets = given.pop("tasks"), given.pop("task_targets")
        output = model(**given)
        total, parts = output.loss, {"nll": LossTerm(output.loss, batch.num_targets)}
        if len(self.tasks) > 1:
            places = given["supervised"]
            task_of_token = tasks.index_select(0, sample_of_token(given["cu_seq_lens_q"], places))
            weighted = output.token_nll * next_tokens(given["weights"], places)
            sums = torch.zeros(len(self.tasks), device=tasks.device).index_add(0, task_of_token, weighted)
            parts |= {f"nll/{name}": LossTerm(sums[n], targets[n]) for n, name in enumerate(self.tasks)}
        return Losses(total, parts)

    def validate(self, model: nn.Module, world: World) -> dict[str, float]:
        """Next-token loss on a fixed set of the validation subjects' dialogues; `score` is its negative."""
        source, nll, num_targets = self.validation, 0.0, 0.0
        numbers = self._validated(source)
        mine = numbers[world.rank :: world.size]
        tokenized = [
            self._validation_sample(source, number) for number in (mine if len(mine) else numbers[:1]).tolist()
        ]
        lengths = [len(sample.tokens) for sample in tokenized[: len(mine)]]
        rows = pack(lengths, self.train.micro_tokens, self.train.micro_batch, 1)[0]
        passes = max(world.sum([len(rows) * (rank == world.rank) for rank in range(world.size)]))
        for row in [*rows, *[[]] * (int(passes) - len(rows))]:
            batch = self.row(source, [tokenized[place] for place in row] or [tokenized[0].without_weight()])
            nll += float(self.losses(model, batch.to(world.device)).total)
            num_targets += batch.num_targets
        total, count = world.sum([nll, num_targets])
        return {"nll": total / count, "score": -total / count}

    def _validated(self, source: ClaimedWindows) -> np.ndarray:
        """Numbers of the validation samples: windows drawn by seed and `balance`, tasks in turn."""
        count = min(_VALIDATION_SAMPLES, len(source))
        windows = self._order(source, self.train.seed, 1).batch(0, count)
        numbers: np.ndarray = windows + len(source) * (np.arange(count) % self.repeats)
        return numbers

    def _validation_sample(self, source: ClaimedWindows, number: int) -> TokenizedSample:
        sample = self.draw(source, number, np.random.default_rng([self.train.seed, 1, number]))
        return TokenizedSample(self._tokens(sample), sample.windows)


def counts_of_answers(number: Sequence[int]) -> np.ndarray:
    """What each token counts, so that a sample's loss is the mean of its answers': (tokens,) -> (tokens,)."""
    return np.full(len(number), 1 / len(set(number)))


def means_for(choice: ClaimChoice, data: EEGData, scaler: QuantityScaler) -> np.ndarray | None:
    """`label_means`, where a choice of claims asks what speaks for a label; None where it does not."""
    return label_means(data, scaler) if choice.relevance else None


def label_means(data: EEGData, scaler: QuantityScaler) -> np.ndarray:
    """Mean deviations of each label's training windows, less those of all labels: (labels, quantities).

    0 for a label that no training window has.
    """
    side = data.split.train
    windows, measured = data.windows(side), data.measured_windows(side)
    deviations = scaler.standardise(measured(np.arange(len(windows))))
    counts = np.diff(windows.ends, prepend=0)
    label = np.repeat(windows.trials["label_id"].to_numpy(), counts)
    present = np.unique(label)
    means = np.zeros((len(data.labels), deviations.shape[1]), dtype=np.float32)
    means[present] = np.stack([deviations[label == n].mean(axis=0) for n in present])
    means[present] -= means[present].mean(axis=0)
    return means


def shared_lengths(own: Sequence[int], size: int, world: World) -> list[int]:
    """Lengths of the `size` samples of a global batch, of which each rank knows its residue class; collective."""
    padded = np.zeros(-(-size // world.size), dtype=np.int64)
    padded[: len(own)] = own
    found: list[int] = world.gather_beside(padded).T.ravel()[:size].tolist()
    return found


def strip_prefix(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Tensors below `prefix`, without it."""
    return {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}


def projector_tensors(model: E2LLMForConditionalGeneration, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """All tensors of the projector: gathered ones that are trained, and those that are fixed."""
    return strip_prefix(state, "projector.") | dict(model.projector.named_buffers())


def save_composite(
    model: E2LLMForConditionalGeneration,
    processor: E2LLMProcessor,
    folder: Path,
    *,
    tower_from: Path,
    llm: str,
    tensors: dict[str, dict[str, Tensor]],
    sides: Sequence[Side],
) -> None:
    """Write a model directory: gathered tensors, the frozen tower, the language model or a reference to it."""
    whole = tensors | {"tower": load_file(tower_from / TOWER_WEIGHTS)}
    model.save_pretrained(folder, save_llm="llm" in tensors, llm_name=llm, tensors=whole)
    processor.save_pretrained(folder)
    copy_probe(tower_from, folder, sides)


def llm_options(train: LanguageTrainConfig) -> dict[str, Any]:
    """Precision and attention of the language model, as `load_llm` takes them.

    Raises
    ------
    InputError
        If the attention that is asked for cannot run here.
    """
    dtype = "bfloat16" if train.precision == "bf16" else "float32"
    return {"dtype": dtype, "attn_implementation": choose_attention(train.attention, dtype)}


def spare_tower(model: E2LLMForConditionalGeneration, data: EEGData) -> None:
    """Drop the frozen tower's weights from memory when its outputs are read instead of computed."""
    if data.features is not None:
        model.tower = DescribedTower(model.tower)


def prepare_llm(llm: Any, train: TrainConfig) -> None:
    """Let a language model attend within packed samples, and recompute its activations if the spec asks for it."""
    attend_packed(llm)
    if train.activation_checkpointing:
        llm.activation_checkpointing_enable({"use_reentrant": False})
