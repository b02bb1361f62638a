"""Progress of counted work, one plain line at a time."""

import math
import time


def clock(seconds: float) -> str:
    """Minutes and seconds, with hours from the first hour on."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}" if minutes >= 60 else f"{minutes}:{rest:02d}"


class Progress:
    """Lines of the form ``[name] done/total  eta 1:23``.

    Parameters
    ----------
    name : str
        Name of the task in progress.
    total : int
        Number of pieces.
    done : int
        Pieces that were there before; they say nothing about the pace.
    """

    def __init__(self, name: str, total: int, done: int = 0) -> None:
        self._name, self._total, self._before = name, total, done
        self._started, self._shown = time.monotonic(), -math.inf

    def line(self, done: int, *words: str) -> str:
        """One line, with words between the count and the ETA."""
        seconds_per_piece = (time.monotonic() - self._started) / max(1, done - self._before)
        eta = f"eta {clock(seconds_per_piece * (self._total - done))}"
        return "  ".join((f"[{self._name}] {done}/{self._total}", *words, eta))

    def show(self, done: int) -> None:
        """Print a line: at most one a second, and one when all is done."""
        now = time.monotonic()
        if done == self._total or now - self._shown >= 1:
            print(self.line(done), flush=True)
            self._shown = now
