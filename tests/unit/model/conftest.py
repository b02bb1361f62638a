from collections.abc import Callable

import pytest
import torch

from e2llm_core.encoders.eegpt.contract import PRETRAINED_CHANNELS
from e2llm_core.llm.families.qwen import QWEN
from e2llm_core.llm.tiny_llm import tiny_llm, train_tokenizer
from e2llm_core.model.modeling_e2llm import E2LLMForConditionalGeneration
from e2llm_core.model.processing_e2llm import E2LLMProcessor
from e2llm_core.tower.tower import EEGSettings, EEGTower

CORPUS = [
    "The recording shows strong alpha power over occipital channels, 10 Hz.",
    "Which emotion does this segment show? happy, sad, neutral, fear, disgust, anger or surprise.",
    "Die Aufnahme zeigt Freude; 这段脑电显示快乐。",
]


@pytest.fixture(scope="session")
def tokenizer():
    return train_tokenizer(CORPUS * 5, vocab_size=360)


@pytest.fixture(scope="session")
def settings() -> EEGSettings:
    return EEGSettings(channels=PRETRAINED_CHANNELS[:4], window_seconds=1.0, unit="uV")


@pytest.fixture
def make_tower(settings) -> Callable[[], EEGTower]:
    def make() -> EEGTower:
        torch.manual_seed(1)
        return EEGTower.build(
            settings,
            encoder={"name": "eegpt", "dim": 16, "depth": 2, "num_heads": 2},
            temporal={"dim": 24, "depth": 1, "num_heads": 2, "max_patches": 16},
        ).eval()

    return make


@pytest.fixture
def make_llm(tokenizer) -> Callable[..., torch.nn.Module]:
    def make(**kwargs) -> torch.nn.Module:
        torch.manual_seed(2)
        llm = tiny_llm(384, hidden_size=32, layers=2, intermediate=64, tokenizer=tokenizer, **kwargs)
        with torch.no_grad():  # large weights, so that greedy decoding depends on its context
            for parameter in llm.parameters():
                if parameter.ndim == 2:
                    parameter.mul_(8.0)
        return llm.eval()

    return make


@pytest.fixture
def processor(tokenizer, make_tower) -> E2LLMProcessor:
    tower = make_tower()
    return E2LLMProcessor(tokenizer, tower.num_tokens, tower.eeg, QWEN)


@pytest.fixture
def make_model(make_tower, make_llm, processor) -> Callable[..., E2LLMForConditionalGeneration]:
    def make(llm=None, **projector) -> E2LLMForConditionalGeneration:
        torch.manual_seed(3)
        llm = llm if llm is not None else make_llm()
        labels = ["sad", "happy"]
        model = E2LLMForConditionalGeneration.assemble(make_tower(), llm, processor.eeg_ids, labels, projector or None)
        return model.eval()

    return make


def ask(processor: E2LLMProcessor, text: str, **kwargs) -> str:
    return processor.build_prompt([{"role": "user", "content": text}], **kwargs)


@pytest.fixture
def prompts(processor) -> list[str]:
    return [
        ask(processor, "Which emotion? <eeg>"),
        ask(processor, "Compare <eeg> with <eeg>, and say which one is happy."),
    ]


@pytest.fixture
def segments(settings) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(4)
    shape = (len(settings.channels), settings.n_times)
    return [20 * torch.randn(count, *shape, generator=generator) for count in (1, 2)]


@pytest.fixture
def batch(processor, prompts, segments) -> dict[str, torch.Tensor]:
    targets = [processor.build_target("sad", "Alpha is low."), processor.build_target("the first")]
    return processor(prompts, targets, segments)
