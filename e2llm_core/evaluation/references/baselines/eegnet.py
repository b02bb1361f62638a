"""EEGNet: a temporal, a depthwise spatial and a separable convolution.

Lawhern, Solon, Waytowich, Gordon, Hung and Lance (2018), EEGNet: a compact convolutional neural network for EEG-based
brain-computer interfaces, Journal of Neural Engineering 15, 056013. EEGNet-8,2: 8 temporal filters of half a second, 2
spatial filters for each.
"""

import torch
from torch import Tensor, nn

from e2llm_core.evaluation.references.baselines.network import Network, NetworkBaseline

_FILTERS, _DEPTH = 8, 2
_POOLS = (4, 8)
_SEPARABLE_SECONDS = 0.125
_DROPOUT = 0.25
_EPS = 1e-3
_SPATIAL_NORM, _CLASSIFIER_NORM = 1.0, 0.25


class EEGNet(Network):
    """EEGNet, from windows to logits.

    Parameters
    ----------
    n_chans, n_times : int
        Size of a window.
    num_labels : int
        Number of classes.
    sfreq_hz : float
        Sampling rate in hertz, which turns the filters' lengths in seconds into samples.
    """

    def __init__(self, n_chans: int, n_times: int, num_labels: int, sfreq_hz: float) -> None:
        super().__init__()
        temporal, separable = round(sfreq_hz / 2), round(sfreq_hz * _SEPARABLE_SECONDS)
        maps = _FILTERS * _DEPTH
        self.temporal = nn.Conv2d(1, _FILTERS, (1, temporal), padding=(0, temporal // 2), bias=False)
        self.temporal_norm = nn.BatchNorm2d(_FILTERS, eps=_EPS)
        self.spatial = nn.Conv2d(_FILTERS, maps, (n_chans, 1), groups=_FILTERS, bias=False)
        self.spatial_norm = nn.BatchNorm2d(maps, eps=_EPS)
        self.depthwise = nn.Conv2d(maps, maps, (1, separable), padding=(0, separable // 2), groups=maps, bias=False)
        self.pointwise = nn.Conv2d(maps, maps, 1, bias=False)
        self.separable_norm = nn.BatchNorm2d(maps, eps=_EPS)
        self.activation, self.dropout = nn.ELU(), nn.Dropout(_DROPOUT)
        self.pools = nn.ModuleList(nn.AvgPool2d((1, width)) for width in _POOLS)
        with torch.no_grad():
            size = self.eval()._features(torch.zeros(1, n_chans, n_times)).shape[1]
        self.classifier = nn.Linear(size, num_labels)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(self.classifier.bias)
        self.constrain()
        self.train()

    def forward(self, eeg_BCT: Tensor) -> Tensor:
        """Logits (batch, labels)."""
        logits: Tensor = self.classifier(self._features(eeg_BCT))
        return logits

    def _features(self, eeg_BCT: Tensor) -> Tensor:
        maps = self.temporal_norm(self.temporal(eeg_BCT[:, None]))
        maps = self.activation(self.spatial_norm(self.spatial(maps)))
        maps = self.dropout(self.pools[0](maps))
        maps = self.activation(self.separable_norm(self.pointwise(self.depthwise(maps))))
        return self.dropout(self.pools[1](maps)).flatten(1)

    @torch.no_grad()
    def constrain(self) -> None:
        """Limit the norm of each spatial filter to 1 and of each class's weights to 0.25."""
        for module, limit in ((self.spatial, _SPATIAL_NORM), (self.classifier, _CLASSIFIER_NORM)):
            module.weight.copy_(torch.renorm(module.weight, p=2, dim=0, maxnorm=limit))


BASELINE = NetworkBaseline(EEGNet)
