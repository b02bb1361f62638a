"""The networks among the baselines: their form, and that they learn."""

import numpy as np
import pytest
import torch

from e2llm_core.evaluation.references.baselines import network as training
from e2llm_core.evaluation.references.baselines.eegnet import EEGNet
from e2llm_core.evaluation.references.baselines.network import Signals
from e2llm_core.evaluation.references.baselines.shallow_convnet import ShallowConvNet

NETWORKS = [EEGNet, ShallowConvNet]
EEGNET_NAMES = {
    "temporal": "conv_temporal",
    "temporal_norm": "bnorm_temporal",
    "spatial": "conv_spatial",
    "spatial_norm": "bnorm_1",
    "depthwise": "conv_separable_depth",
    "pointwise": "conv_separable_point",
    "separable_norm": "bnorm_2",
    "classifier": "final_layer.linearconstraint",
}


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize(("n_chans", "n_times", "num_labels", "sfreq_hz"), [(6, 128, 3, 128.0), (30, 500, 7, 125.0)])
def test_networks_take_windows_of_any_size(network, n_chans, n_times, num_labels, sfreq_hz):
    made = network(n_chans, n_times, num_labels, sfreq_hz)
    logits = made(torch.randn(5, n_chans, n_times))
    assert logits.shape == (5, num_labels)
    logits.sum().backward()
    assert all(torch.isfinite(parameter.grad).all() for parameter in made.parameters())


def test_weights_are_brought_back_to_their_norm():
    network = EEGNet(6, 128, 3, 128.0)
    with torch.no_grad():
        for module in (network.spatial, network.classifier):
            module.weight.mul_(100)
    network.constrain()
    assert network.spatial.weight.detach().flatten(1).norm(dim=1).max() == pytest.approx(1.0, rel=1e-4)
    assert network.classifier.weight.detach().norm(dim=1).max() == pytest.approx(0.25, rel=1e-4)


def moved(network: torch.nn.Module) -> torch.nn.Module:
    """With statistics and affine weights that are not those of the start."""
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.running_mean, module.running_var, module.weight, module.bias):
                tensor.data.uniform_(0.5, 1.5)
    return network.eval()


def test_eegnet_is_braindecodes():
    models = pytest.importorskip("braindecode.models", exc_type=(ImportError, OSError))
    ours = moved(EEGNet(22, 256, 4, 128.0))
    theirs = models.EEGNet(22, 4, 256, final_layer_with_constraint=True).eval()
    state = {
        f"{EEGNET_NAMES[name.rpartition('.')[0]]}.{name.rpartition('.')[2]}": t for name, t in ours.state_dict().items()
    }
    constrained = {name.replace(".weight", ".parametrizations.weight.original"): t for name, t in state.items()}
    known = theirs.state_dict()
    theirs.load_state_dict({name: (state | constrained)[name].reshape(known[name].shape) for name in known})
    eeg = torch.randn(3, 22, 256)
    torch.testing.assert_close(ours(eeg), theirs(eeg), rtol=1e-4, atol=1e-5)


def test_the_shallow_convnet_is_braindecodes():
    models = pytest.importorskip("braindecode.models", exc_type=(ImportError, OSError))
    ours = moved(ShallowConvNet(22, 500, 4, 250.0))
    theirs = models.ShallowFBCSPNet(22, 4, 500).eval()
    own = ours.state_dict()
    pairs = {
        "conv_time_spat.conv_time": "temporal",
        "conv_time_spat.conv_spat": "spatial",
        "bnorm": "norm",
        "final_layer.conv_classifier": "classifier",
    }
    state = {}
    for name, tensor in theirs.state_dict().items():
        layer, _, kind = name.rpartition(".")
        value = own[f"{pairs[layer]}.{kind}"]
        swapped = value.transpose(-1, -2) if value.ndim == 4 else value
        state[name] = swapped.reshape(tensor.shape)
    theirs.load_state_dict(state)
    eeg = torch.randn(3, 22, 500)
    torch.testing.assert_close(ours(eeg), theirs(eeg), rtol=1e-4, atol=1e-5)


class Recorded:
    """Windows in memory: class 1 is louder in its first channel."""

    sfreq_hz, n_times, channels = 256.0, 128, ("C3", "C4", "O1")

    def __init__(self, number: int, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.codes = rng.integers(0, 2, number)
        self.eeg = rng.normal(0, 10, (number, 3, self.n_times)).astype(np.float32)
        self.eeg[:, 0] *= 1 + 2 * self.codes[:, None]
        self.reads = 0

    def __len__(self) -> int:
        return len(self.eeg)

    def read(self, ids: np.ndarray) -> np.ndarray:
        self.reads += len(ids)
        return self.eeg[ids]


def test_signals_are_resampled_and_those_that_fit_are_read_once():
    windows = Recorded(10, 0)
    whole, tight = Signals(windows), Signals(windows, kept_bytes=4 * 4 * 3 * 64)
    assert whole.shape == (3, 64)
    assert whole.sfreq_hz == 128.0
    ids = np.array([7, 1, 1, 3])
    expected = whole.read(np.arange(10))[ids]
    before = windows.reads
    for signals in (whole, tight, tight):
        assert torch.equal(signals.read(ids), expected)
    assert windows.reads - before == 4 + 1, "only window 7 is read again"


@pytest.mark.parametrize("network", NETWORKS)
def test_networks_learn_and_a_seed_gives_the_same_one(network):
    sides = {"train": Recorded(128, 1), "validation": Recorded(32, 2)}
    targets = {name: torch.tensor(windows.codes) for name, windows in sides.items()}
    baseline = training.NetworkBaseline(network, max_epochs=25)
    made = []
    for _ in range(2):
        torch.manual_seed(0)
        one = network(3, 64, 3, 128.0)
        baseline._train(one, {name: Signals(windows) for name, windows in sides.items()}, targets, 3, 0)
        made.append(one.eval())
    held_out = Recorded(100, 3)
    with torch.no_grad():
        logits = [one(Signals(held_out).read(np.arange(100))) for one in made]
    assert torch.equal(*logits)
    answers = logits[0].argmax(dim=1).numpy()
    assert (answers == held_out.codes).mean() > 0.8
