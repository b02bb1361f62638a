"""Configuration of the composite EEG-language model."""

from __future__ import annotations

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec

from e2llm_core.encoders import DEFAULT_ENCODER
from e2llm_core.llm.families.table import STAND_IN


@strict
class E2LLMConfig(PreTrainedConfig):
    """Configuration of `E2LLMForConditionalGeneration`.

    Attributes
    ----------
    text_config
        Configuration of the inner language model.
    encoder
        ``{"name", ...settings of its network}``; see `e2llm_core.encoders`.
    temporal
        ``{"dim", "depth", "num_heads", "max_patches", "dropout"}``.
    projector
        ``{"kind": "mlp" | "resampler" | "worded", ...}``; see `e2llm_core.model.projector`.
    eeg
        ``{"channels", "sfreq_hz", "window_seconds", "unit", "normalisation", "adaptation"}`` of one segment.
    tower_tokens
        Tokens the EEG tower gives per segment (one CLS and one per time patch).
    labels
        Emotion names, in the order of their label set.
    eeg_token_id, eeg_start_id, eeg_end_id
        Ids of ``<|eeg_pad|>``, ``<|eeg_start|>`` and ``<|eeg_end|>``.
    llm_source
        None when the language model lies in the model folder; else
        ``{"kind": "folder" | "hub", "name": str, "revision": str | None, "digest": str}``.
    """

    model_type = "e2llm"
    sub_configs_defaults: ClassVar[dict[str, SubConfigSpec]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type=STAND_IN)
    }

    text_config: dict | PreTrainedConfig | None = None
    encoder: dict[str, Any] | None = None
    temporal: dict[str, Any] | None = None
    projector: dict[str, Any] | None = None
    eeg: dict[str, Any] | None = None
    tower_tokens: int = 17
    labels: list[str] | None = None
    eeg_token_id: int = 0
    eeg_start_id: int = 0
    eeg_end_id: int = 0
    llm_source: dict[str, Any] | None = None
    tie_word_embeddings: bool = False

    def __post_init__(self, **kwargs: Any) -> None:
        super().__post_init__(**kwargs)
        self.encoder = dict(self.encoder or {"name": DEFAULT_ENCODER})
        self.temporal = dict(self.temporal or {})
        self.projector = dict(self.projector or {"kind": "mlp"})
        self.eeg = dict(self.eeg or {})
        self.labels = list(self.labels or [])

    @property
    def num_eeg_tokens(self) -> int:
        """Placeholder positions that one EEG segment fills."""
        match self.projector:
            case {"kind": "resampler", "num_queries": number}:
                return int(number)
            case {
                "kind": "worded",
                "quantities": quantities,
                "opening": opening,
                "pieces": pieces,
                "strongest": strongest,
            }:
                return 2 + opening + min(strongest, len(quantities)) * (pieces + 1)
        return self.tower_tokens


AutoConfig.register("e2llm", E2LLMConfig, exist_ok=True)
