"""What `gpu.py` measures on, made where it runs: a twin's store, an untrained tower, a composite of random weights."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter
from scipy.signal import resample_poly

from e2llm_core.encoders.eegpt.contract import PRETRAINED_CHANNELS
from e2llm_core.model.config import ProjectorConfig
from e2llm_core.sizes.llm import LLMSize, llm_size
from e2llm_core.stages.config import build_stage
from e2llm_core.stages.stage1.stage import Stage1
from e2llm_core.stages.table import AnyPlan
from e2llm_core.tasks.corpus.dialogues import corpus_dialogue
from e2llm_core.training.world import World
from storage.datasets import seed_vii
from storage.labels import SEED_VII
from storage.signal import SEED_CHANNELS
from storage.store import RecordingInfo, Trial, create_store
from storage.twin import SubjectSynthesiser, TwinConfig, twin_digest

SUBJECTS, TOKENS = 4, 640
"""Two of them train. The tokenizer's vocabulary; the model's is Qwen's."""
_UP, _DOWN = 32, 25  # SEED-VII's 200 Hz to the tower's 256


@dataclass(frozen=True)
class Size:
    """How large all of it is.

    Attributes
    ----------
    llm
        The language model.
    tower
        Settings of the tower; the published EEGPT large by default.
    clips, clip_seconds
        Of every subject.
    steps, warm_up
        Of a training run; how many of the first do not count.
    windows
        Of a step of stage 1, and of a forward pass when scoring.
    samples
        Of a step of stage 3.
    scored
        Windows that are scored.
    product
        Rows of the square matrices that are multiplied.
    seconds
        For which a kernel is repeated.
    """

    llm: LLMSize
    tower: dict[str, int] = field(default_factory=dict)
    clips: int = 20
    clip_seconds: int = 24
    steps: int = 16
    warm_up: int = 4
    windows: int = 128
    samples: int = 96
    scored: int = 1024
    product: int = 8192
    seconds: float = 1.0


_TINY_TOWER = {"dim": 32, "depth": 1, "num_heads": 2, "temporal_dim": 32, "temporal_depth": 1, "temporal_heads": 2}
_TINY_LLM: dict[str, int] = {"hidden": 64, "layers": 2, "heads": 4, "kv_heads": 2, "head_dim": 16, "intermediate": 128}
_QWEN = llm_size("Qwen/Qwen3-8B")
SIZES = {
    "full": Size(_QWEN),
    "tiny": Size(
        _QWEN.model_copy(update=_TINY_LLM | {"vocab": TOKENS}),
        _TINY_TOWER,
        clips=12,
        clip_seconds=4,
        steps=3,
        warm_up=1,
        windows=8,
        samples=8,
        scored=16,
        product=256,
        seconds=0.05,
    ),
}


@dataclass(frozen=True)
class Inputs:
    """A folder with the store, the tower and the composite, and the plans that name them."""

    root: Path
    size: Size

    @property
    def tower(self) -> Path:
        """Model directory of stage 1, untrained."""
        return self.root / "tower"

    @property
    def composite(self) -> Path:
        """Model directory of stage 2, untrained."""
        return self.root / "composite"

    def plan(self, stage: str) -> Any:
        """The plan of stage 1 or 3: in bfloat16 under ZeRO-3."""
        size = self.size
        windows = {"window_seconds": 4.0, "stride_seconds": 4.0, "channels": PRETRAINED_CHANNELS}
        windows |= {"normalisation": "none", "adaptation": "none"}
        split = {"train": 2, "validation": 1, "test": 1}
        data = {"store": str(self.root / "store.zarr"), "windows": windows, "split": split}
        model = {"stage1": {"start": "fourier", **size.tower}, "stage3": {"start": str(self.composite)}}[stage]
        batch = {"stage1": size.windows, "stage3": size.samples}[stage]
        train = {"max_steps": size.steps, "global_batch": batch, "micro_batch": batch, "micro_tokens": 2048}
        train |= {"validate_every": size.steps, "checkpoint_every": size.steps, "log_every": 1}
        train |= {"precision": "bf16", "zero_stage": 3, "learning_rate": 1e-4}
        return TypeAdapter(AnyPlan).validate_python({"data": data, "model": model, "train": train})

    def make(self) -> None:
        """Write store, tower and composite."""
        write_twin(self.root / "store.zarr", self.size)
        stage = build_stage(self.plan("stage1"))
        assert isinstance(stage, Stage1)
        torch.manual_seed(0)
        model, _ = stage.build()
        self.tower.mkdir()
        stage.export(model, {name: value.detach() for name, value in model.named_parameters()}, self.tower)
        self._compose(stage)

    def _compose(self, stage: Stage1) -> None:
        from e2llm_core.llm.families.table import family_of
        from e2llm_core.llm.tiny_llm import train_tokenizer
        from e2llm_core.llm.tokens import add_eeg_tokens
        from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
        from e2llm_core.model.processing_e2llm import E2LLMProcessor
        from e2llm_core.stages.language import save_composite
        from e2llm_core.tower.tower import load_tower

        dialogues = [corpus_dialogue(number, SEED_VII.names, 0) for number in range(500)]
        tokenizer = train_tokenizer([d.user + d.answer + (d.thinking or "") for d in dialogues], TOKENS)
        llm = random_llm(self.size.llm, tokenizer)
        ids = add_eeg_tokens(tokenizer)
        labels, projector = list(stage.data.labels), ProjectorConfig(kind="mlp").settings()
        model = E2LLMForConditionalGeneration.assemble(load_tower(self.tower), llm, ids, labels, projector)
        family = family_of(llm.config.model_type)
        processor = E2LLMProcessor(tokenizer, model.config.num_eeg_tokens, stage.data.settings, family)
        tensors = {"projector": model.projector.state_dict(), "llm": llm.state_dict()}
        save_composite(
            model,
            processor,
            self.composite,
            tower_from=self.tower,
            llm=str(self.composite),
            tensors=tensors,
            sides=stage.data.split.seen,
        )


def random_llm(size: LLMSize, tokenizer: Any) -> Any:
    """A Qwen3 of this shape, in bfloat16, made on the device."""
    from transformers import AutoModelForCausalLM, Qwen3Config

    config = Qwen3Config(
        vocab_size=size.vocab,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        num_key_value_heads=size.kv_heads,
        head_dim=size.head_dim,
        intermediate_size=size.intermediate,
        tie_word_embeddings=size.tied,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    torch.manual_seed(0)
    with World.from_environment().device:
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def write_twin(folder: Path, size: Size) -> None:
    """Recordings of the twin's first session, resampled; without the files that a real one is read from."""
    config = TwinConfig(num_subjects=SUBJECTS, clip_seconds=size.clip_seconds)
    store, digest = create_store(folder, dataset="synthetic twin", label_set=SEED_VII), twin_digest(config)
    length = size.clip_seconds * seed_vii.SFREQ_HZ * _UP // _DOWN
    for subject in range(1, SUBJECTS + 1):
        synthesiser = SubjectSynthesiser(config, subject)
        signal = np.concatenate([synthesiser.clip(clip) for clip in range(1, size.clips + 1)], axis=1)
        trials = tuple(
            Trial(
                trial=clip,
                position=clip,
                clip=clip,
                start=int((clip - 1) * length),
                stop=int(clip * length),
                label=seed_vii.CLIP_LABELS[clip - 1],
            )
            for clip in range(1, size.clips + 1)
        )
        info = RecordingInfo(
            recording_id=f"sub-{subject}",
            subject=str(subject),
            session="1",
            channels=SEED_CHANNELS,
            sfreq_hz=256.0,
            n_times=int(size.clips * length),
            source_sha256=digest,
            ingest_digest=digest,
            provenance={},
            trials=trials,
        )
        store.write_recording(info, resample_poly(signal, _UP, _DOWN, axis=1))
