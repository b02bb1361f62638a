"""The shallow ConvNet: temporal and spatial convolution, squared, averaged over time, log.

Schirrmeister, Springenberg, Fiederer, Glasstetter, Eggensperger, Tangermann, Hutter, Burgard and Ball (2017), Deep
learning with convolutional neural networks for EEG decoding and visualization, Human Brain Mapping 38, 5391-5420. The
paper's filters, pools and strides of 25, 75 and 15 samples at 250 Hz are given here in seconds.
"""

import torch
from torch import Tensor, nn

from e2llm_core.evaluation.references.baselines.network import Network, NetworkBaseline

_FILTERS = 40
_FILTER_SECONDS, _POOL_SECONDS, _STRIDE_SECONDS = 0.1, 0.3, 0.06
_DROPOUT = 0.5
_SMALLEST = 1e-6


class ShallowConvNet(Network):
    """The shallow ConvNet, from windows to logits.

    Parameters
    ----------
    n_chans, n_times : int
        Size of a window.
    num_labels : int
        Number of classes.
    sfreq_hz : float
        Sampling rate in hertz, which turns the lengths of filters and pools in seconds into samples.
    """

    def __init__(self, n_chans: int, n_times: int, num_labels: int, sfreq_hz: float) -> None:
        super().__init__()
        width, pool, stride = (
            max(1, round(sfreq_hz * seconds)) for seconds in (_FILTER_SECONDS, _POOL_SECONDS, _STRIDE_SECONDS)
        )
        self.temporal = nn.Conv2d(1, _FILTERS, (1, width))
        self.spatial = nn.Conv2d(_FILTERS, _FILTERS, (n_chans, 1), bias=False)
        self.norm = nn.BatchNorm2d(_FILTERS)
        self.pool, self.dropout = nn.AvgPool2d((1, pool), (1, stride)), nn.Dropout(_DROPOUT)
        with torch.no_grad():
            size = self.eval()._features(torch.zeros(1, n_chans, n_times)).shape[1]
        self.classifier = nn.Linear(size, num_labels)
        for module in (self.temporal, self.spatial, self.classifier):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        self.train()

    def forward(self, eeg_BCT: Tensor) -> Tensor:
        """Logits (batch, labels)."""
        logits: Tensor = self.classifier(self._features(eeg_BCT))
        return logits

    def _features(self, eeg_BCT: Tensor) -> Tensor:
        maps = self.norm(self.spatial(self.temporal(eeg_BCT[:, None])))
        power = self.pool(maps**2).clamp(min=_SMALLEST).log()
        features: Tensor = self.dropout(power).flatten(1)
        return features


BASELINE = NetworkBaseline(ShallowConvNet)
