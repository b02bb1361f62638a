"""Matching locations in specs to the runs that they belong to."""

from collections.abc import Iterable


def plain(place: str) -> str:
    """Strip a leading ``./`` and trailing slashes from a location."""
    return place.removeprefix("./").rstrip("/")


def holder(place: str, runs: Iterable[str]) -> str | None:
    """The run that a location equals or lies below (the innermost of nested runs); None if there is none."""
    holding = [run for run in runs if f"{plain(place)}/".startswith(f"{plain(run)}/")]
    return max(holding, key=lambda run: len(plain(run)), default=None)


def moved(place: str, run: str, to: str) -> str:
    """Replace `run` by `to` in a location at or below `run`."""
    return to + plain(place).removeprefix(plain(run))
