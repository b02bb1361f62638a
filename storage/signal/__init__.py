"""Channels, units and what is done to a signal on its way into the store."""

from storage.signal.channels import SEED_CHANNELS
from storage.signal.config import SignalConfig

__all__ = ["SEED_CHANNELS", "SignalConfig"]
