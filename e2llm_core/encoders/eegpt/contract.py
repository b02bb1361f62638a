"""What EEGPT takes: 256 Hz, millivolts, an average reference, patches of 250 ms, 62 channels. Light to import."""

from e2llm_core.encoders.config import InputContract

_TABLE = (
    "FP1 FPZ FP2 AF7 AF3 AF4 AF8 F7 F5 F3 F1 FZ F2 F4 F6 F8 "
    "FT7 FC5 FC3 FC1 FCZ FC2 FC4 FC6 FT8 T7 C5 C3 C1 CZ C2 C4 C6 T8 "
    "TP7 CP5 CP3 CP1 CPZ CP2 CP4 CP6 TP8 P7 P5 P3 P1 PZ P2 P4 P6 P8 "
    "PO7 PO5 PO3 POZ PO4 PO6 PO8 O1 OZ O2"
)
CHANNELS: tuple[str, ...] = tuple(_TABLE.split())
"""The 62 channels of the embedding table; a channel's row is its position here."""

UNTRAINED_CHANNELS = ("AF7", "AF8", "PO5", "PO6")
"""Table rows that the published pretraining never updated."""

PRETRAINED_CHANNELS = tuple(name for name in CHANNELS if name not in UNTRAINED_CHANNELS)
"""The 58 channels of the published pretraining, in table order."""

CONTRACT = InputContract(sfreq_hz=256.0, unit="mV", reference="average", patch_samples=64, channels=CHANNELS)
