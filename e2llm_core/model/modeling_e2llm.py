"""The composite EEG-language model.

Shape suffixes: B batch, L sequence, G segments in the whole batch, C channels, T samples, E tower dimension,
K EEG tokens per segment, M LLM dimension, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutputWithPast

from e2llm_core.encoders.blocks import module_dtype
from e2llm_core.llm.supervision import SupervisedHead, score_tokens, sum_per_row, supervised_positions
from e2llm_core.model.configuration_e2llm import E2LLMConfig
from e2llm_core.model.model_folder import ModelFolderMixin
from e2llm_core.model.projector import build_projector, complete_projector_config, embedding_rms
from e2llm_core.tower.tower import EEGSettings, EEGTower
from e2llm_core.training.deepspeed_private import is_partitioned


@dataclass
class E2LLMOutput(CausalLMOutputWithPast):
    """With labels, what they cost.

    Attributes
    ----------
    token_nll
        (n_supervised,) negative log-likelihoods in nats, without a gradient.
    """

    token_nll: Tensor | None = None


def placeholder_places(input_ids: Tensor, token: int, segments: int, per_segment: int) -> Tensor:
    """Places of EEG placeholders in flattened token ids: (B, L) -> (segments * per_segment,) int64.

    Raises
    ------
    ValueError
        If there are not as many as the segments need.
    """
    places = (input_ids.flatten() == token).nonzero().squeeze(1)
    if len(places) != segments * per_segment:
        raise ValueError(
            f"eeg: {segments} segments need {segments * per_segment} placeholder tokens "
            f"({per_segment} each), the prompts hold {len(places)}. Give one segment per EEG marker, in order"
        )
    return places


class E2LLMForConditionalGeneration(ModelFolderMixin, PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """EEG tower, projector and a language model.

    Parameters
    ----------
    config
        Configuration.
    tower, projector, llm
        Ready-made parts, used as they are; a part that is None is built from `config` with random weights.
        `llm` may be wrapped by PEFT, or partitioned by ZeRO-3.

    Raises
    ------
    ValueError
        If the parts do not fit each other.
    """

    config_class = E2LLMConfig
    base_model_prefix = ""
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    supports_gradient_checkpointing = True

    def __init__(
        self,
        config: E2LLMConfig,
        tower: EEGTower | None = None,
        projector: nn.Module | None = None,
        llm: Any = None,
    ) -> None:
        super().__init__(config)
        text_config: Any = config.text_config
        if tower is None:
            eeg = EEGSettings.from_dict(config.eeg or {})
            tower = EEGTower.build(eeg, encoder=config.encoder, temporal=config.temporal)
        if llm is None:
            llm = AutoModelForCausalLM.from_config(text_config, trust_remote_code=False)
        if projector is None:
            fields = complete_projector_config(config.projector, text_config.hidden_size, embedding_rms(llm))
            config.projector = fields
            projector = build_projector(fields, tower.dim, text_config.hidden_size)
        if tower.num_tokens != config.tower_tokens:
            raise ValueError(
                f"config.tower_tokens: {config.tower_tokens}, but the tower gives {tower.num_tokens} tokens "
                "per segment. Make the config from the tower"
            )
        self.tower = tower
        self.projector = projector
        self.llm = llm
        SupervisedHead.install(self.bare_llm)
        self.post_init()

    @classmethod
    def from_parts(cls, config: E2LLMConfig, tower: EEGTower, projector: nn.Module, llm: Any) -> Self:
        """Compose existing parts; their weights are not changed."""
        return cls(config, tower=tower, projector=projector, llm=llm)

    @classmethod
    def assemble(
        cls,
        tower: EEGTower,
        llm: Any,
        eeg_ids: dict[str, int],
        labels: list[str] | None = None,
        projector: dict[str, Any] | None = None,
    ) -> Self:
        """Compose a tower and a language model with a new projector.

        Parameters
        ----------
        tower
            From stage 1.
        llm
            Causal language model of a known family, bare or wrapped by PEFT.
        eeg_ids
            ``E2LLMProcessor.eeg_ids``.
        labels
            Emotion names.
        projector
            Projector settings; see `e2llm_core.model.projector.complete_projector_config`.

        Raises
        ------
        ValueError
            If an EEG token has no embedding row, or a setting is unknown.
        """
        rows = llm.config.vocab_size
        if max(eeg_ids.values()) >= rows:
            raise ValueError(f"eeg_ids: {eeg_ids} exceed {rows} embedding rows. Load it with rows for them")
        projector_fields = complete_projector_config(projector, llm.config.hidden_size, embedding_rms(llm))
        fields: dict[str, Any] = {
            "text_config": llm.config.to_dict(),
            **tower.config_dict(),
            "projector": projector_fields,
            "tower_tokens": tower.num_tokens,
            "labels": list(labels or []),
            **eeg_ids,
        }
        module = build_projector(projector_fields, tower.dim, llm.config.hidden_size)
        return cls.from_parts(E2LLMConfig(**fields), tower, module, llm)

    @property
    def bare_llm(self) -> Any:
        """The language model without PEFT's wrapper (adapters inside it stay in use)."""
        return self.llm.get_base_model() if hasattr(self.llm, "get_base_model") else self.llm

    def init_weights(self) -> None:
        """Do nothing: every part initialises or loads itself, and ready-made weights must survive."""

    def _init_weights(self, module: nn.Module) -> None:
        """Do nothing, as `init_weights`."""

    def get_input_embeddings(self) -> nn.Module:
        """Return the embedding table of the language model."""
        return self.llm.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's embedding table."""
        self.llm.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """Return the output head of the language model."""
        return self.llm.get_output_embeddings()

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language model's output head."""
        self.llm.set_output_embeddings(new_embeddings)

    def train(self, mode: bool = True) -> Self:
        """Set the training mode; a tower without trainable parameters stays in evaluation mode."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.tower.parameters()):
            self.tower.eval()
        return self

    def encode_eeg(self, eeg_GCT: Tensor) -> Tensor:
        """Map segments to embeddings: (G, C, T) -> (G, K, M)."""
        return self.project(self.tower(eeg_GCT))

    def project(self, features_GLE: Tensor) -> Tensor:
        """Map tower outputs (for instance cached ones) to embeddings: (G, 1 + N, E) -> (G, K, M)."""
        return self.projector(features_GLE.to(module_dtype(self.projector)))

    def embed(
        self,
        input_ids: Tensor,
        eeg: Tensor | None = None,
        eeg_features: Tensor | None = None,
        eeg_places: Tensor | None = None,
    ) -> Tensor:
        """Make token embeddings with the EEG segments in their placeholder positions.

        Parameters
        ----------
        input_ids
            (B, L).
        eeg
            (G, C, T), the segments of all rows in reading order, or None.
        eeg_features
            (G, 1 + N, E), outputs of the tower instead of `eeg`.
        eeg_places
            (G * K,) int64, `placeholder_places` of `input_ids`, so that nothing waits for a GPU; else they are found
            here.

        Returns
        -------
        Tensor
            (B, L, M) in the embedding's dtype.

        Raises
        ------
        ValueError
            If both inputs are given, or the placeholders do not match the segments.

        Notes
        -----
        While training, or with ZeRO-3 parameters, a batch without segments runs one zero segment whose
        contribution is multiplied by 0, so that every rank joins the same collectives.
        """
        if eeg is not None and eeg_features is not None:
            raise ValueError("eeg: both eeg and eeg_features were given. Give one of them")
        text_BLM = self.get_input_embeddings()(input_ids)
        segments = eeg if eeg is not None else eeg_features
        if eeg_places is None:
            count, each = 0 if segments is None else segments.shape[0], self.config.num_eeg_tokens
            eeg_places = placeholder_places(input_ids, self.config.eeg_token_id, count, each)
        if segments is not None and segments.shape[0]:
            eeg_GKM = self.encode_eeg(segments) if eeg is not None else self.project(segments)
            source = eeg_GKM.to(text_BLM.dtype).flatten(0, 1)
            return text_BLM.flatten(0, 1).index_copy(0, eeg_places, source).view_as(text_BLM)
        if self.training or is_partitioned(next(self.projector.parameters())):
            dummy = self._dummy(text_BLM.device, as_features=eeg_features is not None)
            return text_BLM + 0.0 * dummy.sum().to(text_BLM.dtype)
        return text_BLM

    def _dummy(self, device: torch.device, as_features: bool) -> Tensor:
        settings = self.tower.eeg
        if as_features:
            return self.project(torch.zeros(1, self.tower.num_tokens, self.tower.dim, device=device))
        return self.encode_eeg(torch.zeros(1, len(settings.channels), settings.n_times, device=device))

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        eeg: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        use_cache: bool | None = None,
        eeg_features: Tensor | None = None,
        weights: Tensor | None = None,
        supervised: Tensor | None = None,
        eeg_places: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Run the language model on text and EEG.

        With `labels` (B, L; -100 is ignored) no logits are kept: the loss is the mean token cross-entropy, or with
        `weights` (B, L) the weighted sum of the tokens' cross-entropies; see `E2LLMOutput`. Packed rows:
        ``attention_mask=None``, restarting `position_ids`, and `cu_seq_lens_q` with its companions. With `supervised`
        and `eeg_places`, see `score_tokens` and `embed`, nothing here waits for a GPU.

        Raises
        ------
        ValueError
            If not one of `input_ids` and `inputs_embeds` is given, or the EEG does not fit.
        """
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("input_ids: give either input_ids or inputs_embeds, not both or none")
        if inputs_embeds is None and input_ids is not None:
            inputs_embeds = self.embed(input_ids, eeg, eeg_features, eeg_places)
        inputs = {"inputs_embeds": inputs_embeds, "attention_mask": attention_mask, "position_ids": position_ids}
        if labels is not None:
            total, nll = score_tokens(self.bare_llm, labels, weights, supervised, **inputs, **kwargs)
            loss = total if weights is not None else total / max(len(nll), 1)
            return E2LLMOutput(loss=loss, token_nll=nll)
        return self.llm(
            **inputs,
            past_key_values=past_key_values,
            use_cache=use_cache,
            logits_to_keep=logits_to_keep,
            **kwargs,
        )

    def supervised_log_likelihood(
        self,
        input_ids: Tensor,
        attention_mask: Tensor | None,
        labels: Tensor,
        eeg: Tensor | None = None,
        position_ids: Tensor | None = None,
        eeg_features: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Compute the negative log-likelihood of the supervised tokens of each row.

        Only the supervised positions pass through the output head.

        Returns
        -------
        nll : Tensor
            (B,), float32, summed over the supervised tokens of each row, in nats; without a gradient.
        counts : Tensor
            (B,), integer, supervised tokens per row.
        """
        output: Any = self.forward(input_ids, attention_mask, position_ids, eeg, labels, eeg_features=eeg_features)
        return sum_per_row(output.token_nll, labels), supervised_positions(labels).sum(dim=1)

    @torch.no_grad()
    def generate(  # type: ignore[override]
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        eeg: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        eeg_features: Tensor | None = None,
        **kwargs: Any,
    ) -> Any:
        """Generate text after left-padded prompts with EEG.

        The embeddings are computed once and handed to the language model, so the result holds the new tokens
        only: (B, n_new). The EEG tokens themselves are never generated.

        Parameters
        ----------
        input_ids, eeg, eeg_features
            As in `embed`; or ready `inputs_embeds`.
        attention_mask
            (B, L); required for more than one row.
        **kwargs
            Options of ``transformers`` generation (``max_new_tokens``, ``do_sample``, ``num_beams``...).

        Raises
        ------
        ValueError
            If the prompts are padded on the right, or the mask is absent for a batch.
        """
        if inputs_embeds is None:
            if input_ids is None:
                raise ValueError("input_ids: none given. Give input_ids or inputs_embeds")
            inputs_embeds = self.embed(input_ids, eeg, eeg_features)
        if attention_mask is None:
            if inputs_embeds.shape[0] > 1:
                raise ValueError("attention_mask: needed for a batch of prompts. Use the processor's output")
            attention_mask = inputs_embeds.new_ones(inputs_embeds.shape[:2], dtype=torch.long)
        if not bool(attention_mask[:, -1].all()):
            raise ValueError("attention_mask: the prompts are padded on the right. Pad on the left")
        suppressed = {self.config.eeg_token_id, self.config.eeg_start_id, self.config.eeg_end_id}
        suppressed.update(kwargs.pop("suppress_tokens", None) or [])
        return self.llm.generate(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            suppress_tokens=sorted(suppressed),
            **kwargs,
        )


AutoModelForCausalLM.register(E2LLMConfig, E2LLMForConditionalGeneration, exist_ok=True)
