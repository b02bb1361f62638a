import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from e2llm_core.encoders import encoder_names, load_encoder, register
from e2llm_core.encoders.eegpt.architecture import EEGPT, EEGPTConfig, channel_ids
from e2llm_core.encoders.eegpt.config import EEGPTTower
from e2llm_core.encoders.eegpt.contract import CHANNELS, PRETRAINED_CHANNELS

_SEED_ROWS = (
    "FP1 FPZ FP2 AF3 AF4 F7 F5 F3 F1 FZ F2 F4 F6 F8 FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 "
    "T7 C5 C3 C1 CZ C2 C4 C6 T8 TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 "
    "P7 P5 P3 P1 PZ P2 P4 P6 P8 PO7 PO5 PO3 POZ PO4 PO6 PO8 CB1 O1 OZ O2 CB2"
)
SEED_62 = _SEED_ROWS.split()
TINY = EEGPTConfig(dim=16, depth=2, num_heads=2)


@pytest.fixture(scope="module")
def tiny() -> EEGPT:
    torch.manual_seed(0)
    encoder = EEGPT(TINY).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return encoder


def test_large_config_has_the_published_keys_and_shapes():
    with torch.device("meta"):
        state = EEGPT().state_dict()
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    expected = {
        "summary_token": (1, 4, 512),
        "patch_embed.proj.weight": (512, 1, 1, 64),
        "patch_embed.proj.bias": (512,),
        "chan_embed.weight": (62, 512),
    }
    for index in range(8):
        block = {
            "norm1.weight": (512,),
            "norm1.bias": (512,),
            "attn.qkv.weight": (1536, 512),
            "attn.qkv.bias": (1536,),
            "attn.proj.weight": (512, 512),
            "attn.proj.bias": (512,),
            "norm2.weight": (512,),
            "norm2.bias": (512,),
            "mlp.fc1.weight": (2048, 512),
            "mlp.fc1.bias": (2048,),
            "mlp.fc2.weight": (512, 2048),
            "mlp.fc2.bias": (512,),
        }
        expected |= {f"blocks.{index}.{key}": shape for key, shape in block.items()}
    expected |= {"norm.weight": (512,), "norm.bias": (512,)}
    assert list(shapes.items()) == list(expected.items())
    assert len(state) == 102
    assert sum(value.numel() for value in state.values()) == 25_287_168


def test_channel_table_is_the_published_one():
    assert len(CHANNELS) == len(set(CHANNELS)) == 62
    assert [CHANNELS[i] for i in (3, 6, 53, 57)] == ["AF7", "AF8", "PO5", "PO6"]
    kept = [SEED_62[i] for i in (*range(51), 52, 53, 54, 56, 58, 59, 60)]
    assert kept == list(PRETRAINED_CHANNELS)
    assert channel_ids(kept) == [i for i in range(62) if i not in (3, 6, 53, 57)]
    assert channel_ids(["Fp1.", "cz", "Oz"]) == [0, CHANNELS.index("CZ"), CHANNELS.index("OZ")]


def reference_forward(encoder: EEGPT, signal_mv: torch.Tensor, channels: list[str]) -> torch.Tensor:
    """The published computation written out patch by patch, without fused operations."""
    config, state = encoder.config, encoder.state_dict()
    signal = signal_mv - signal_mv.mean(dim=1, keepdim=True)
    layer_norm = torch.nn.functional.layer_norm
    patches = []
    for start in range(0, signal.shape[-1], config.patch_size):
        patch = signal[:, :, start : start + config.patch_size]
        h = patch @ state["patch_embed.proj.weight"].flatten(1).T + state["patch_embed.proj.bias"]
        h = h + state["chan_embed.weight"][channel_ids(channels)]
        h = torch.cat([h, state["summary_token"].repeat(len(h), 1, 1)], dim=1)
        for index in range(config.depth):
            p = {k.removeprefix(f"blocks.{index}."): v for k, v in state.items() if k.startswith(f"blocks.{index}.")}
            normed = layer_norm(h, (config.dim,), p["norm1.weight"], p["norm1.bias"], 1e-6)
            q, k, v = (normed @ p["attn.qkv.weight"].T + p["attn.qkv.bias"]).split(config.dim, dim=-1)
            width = config.dim // config.num_heads
            heads = []
            for head in range(config.num_heads):
                part = slice(head * width, (head + 1) * width)
                scores = q[..., part] @ k[..., part].transpose(1, 2) / width**0.5
                heads.append(scores.softmax(dim=-1) @ v[..., part])
            h = h + torch.cat(heads, dim=-1) @ p["attn.proj.weight"].T + p["attn.proj.bias"]
            normed = layer_norm(h, (config.dim,), p["norm2.weight"], p["norm2.bias"], 1e-6)
            hidden = torch.nn.functional.gelu(normed @ p["mlp.fc1.weight"].T + p["mlp.fc1.bias"])
            h = h + hidden @ p["mlp.fc2.weight"].T + p["mlp.fc2.bias"]
        h = layer_norm(h, (config.dim,), state["norm.weight"], state["norm.bias"], 1e-6)
        patches.append(h[:, -config.n_summary :])
    return torch.stack(patches, dim=1)


def test_forward_equals_the_written_out_computation(tiny):
    channels = ["FP1", "CZ", "PZ", "O2", "T7"]
    signal = torch.randn(3, 5, 192)
    with torch.no_grad():
        ours = tiny(signal, channels, sfreq_hz=256, unit="mV")
    assert ours.shape == (3, 3, 4, 16)
    torch.testing.assert_close(ours, reference_forward(tiny, signal, channels), atol=1e-5, rtol=1e-4)


def test_physical_units_agree_and_are_average_referenced(tiny):
    channels = ["FP1", "CZ", "O2"]
    microvolts = 30 * torch.randn(2, 3, 128)
    with torch.no_grad():
        from_uv = tiny(microvolts, channels, 256, "uV")
        torch.testing.assert_close(tiny(microvolts * 1e-3, channels, 256, "mV"), from_uv)
        torch.testing.assert_close(tiny(microvolts * 1e-6, channels, 256, "V"), from_uv)
        shifted = microvolts + torch.randn(2, 1, 128)
        torch.testing.assert_close(tiny(shifted, channels, 256, "uV"), from_uv, atol=1e-5, rtol=1e-4)
        centred = microvolts - microvolts.mean(dim=1, keepdim=True)
        torch.testing.assert_close(tiny(centred * 1e-3, channels, 256, "whitened"), from_uv)
        assert not torch.allclose(tiny(microvolts, channels, 256, "whitened"), from_uv, atol=1e-3)


@settings(max_examples=15, deadline=None)
@given(order=st.permutations(range(6)), seed=st.integers(0, 99))
def test_order_of_channels_does_not_matter(tiny, order, seed):
    names = ["FP1", "FPZ", "CZ", "PZ", "O1", "T8"]
    signal = torch.randn(1, 6, 128, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        plain = tiny(signal, names, 256, "whitened")
        permuted = tiny(signal[:, order], [names[i] for i in order], 256, "whitened")
    torch.testing.assert_close(permuted, plain, atol=1e-5, rtol=1e-4)


def test_patches_do_not_see_each_other(tiny):
    signal = torch.randn(1, 2, 256)
    changed = signal.clone()
    changed[..., 64:128] += 1
    with torch.no_grad():
        difference = (tiny(signal, ["CZ", "PZ"], 256, "whitened") - tiny(changed, ["CZ", "PZ"], 256, "whitened")).abs()
    assert [bool(d.amax() > 0) for d in difference[0]] == [False, True, False, False]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"sfreq_hz": 200}, r"sfreq_hz: EEGPT needs 256, got 200. Resample"),
        ({"unit": "volts"}, r"unit: 'volts' is unknown. Convert"),
        ({"channels": ["CZ", "CB1"]}, r"channels: EEGPT does not know \['CB1'\]. Drop or rename"),
        ({"channels": ["CZ", "cz"]}, r"channels: repeated \['CZ'\]"),
        ({"channels": ["CZ"]}, r"channels: 1 names for 2 signal rows"),
        ({"signal_BCT": torch.zeros(1, 2, 63)}, r"window: 63 samples"),
        ({"signal_BCT": torch.zeros(1, 2, 100)}, r"window: 100 samples"),
        ({"signal_BCT": torch.zeros(2, 128)}, r"signal: expected a floating-point tensor"),
        ({"signal_BCT": torch.zeros(1, 1, 128), "channels": ["CZ"]}, r"average reference of one channel"),
    ],
)
def test_refusals_name_field_and_remedy(tiny, kwargs, message):
    call = {
        "signal_BCT": torch.zeros(1, 2, 128),
        "channels": ["CZ", "PZ"],
        "sfreq_hz": 256,
        "unit": "uV",
    } | kwargs
    with pytest.raises(ValueError, match=message):
        tiny(**call)


def test_registry():
    assert "eegpt" in encoder_names()
    encoder = load_encoder("eegpt", config={"dim": 16, "depth": 1, "num_heads": 2})
    assert (encoder.n_summary, encoder.dim, encoder.patch_seconds, encoder.training) == (4, 16, 0.25, False)
    with pytest.raises(ValueError, match="'labram' is not registered"):
        load_encoder("labram")
    with pytest.raises(ValueError, match=r"unknown keys \['width'\]"):
        load_encoder("eegpt", config={"width": 16})
    with pytest.raises(ValueError, match="already registered"):
        register(EEGPTTower)
