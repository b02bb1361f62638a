"""Which run a place belongs to."""

from collections.abc import Iterable


def plain(place: str) -> str:
    """A place as a spec's fields have it: without a leading ``./`` and a closing slash."""
    return place.removeprefix("./").rstrip("/")


def holder(place: str, runs: Iterable[str]) -> str | None:
    """The run at or below which a place is; of runs within one another, the innermost."""
    holding = [run for run in runs if f"{plain(place)}/".startswith(f"{plain(run)}/")]
    return max(holding, key=lambda run: len(plain(run)), default=None)


def moved(place: str, run: str, to: str) -> str:
    """A place at or below a run, in another run."""
    return to + plain(place).removeprefix(plain(run))
