"""What the settings of every job know of themselves. Light to import."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict


@dataclass(frozen=True)
class Input(ABC):
    """Something that a job reads.

    Parameters
    ----------
    field : str
        The key of the spec that names it.
    """

    field: str

    @abstractmethod
    def digest(self) -> str | None:
        """Check that it is there and fits, and say which it is; None for what is no part of the run's identity.

        Raises
        ------
        InputError
            Naming what is missing or does not fit.
        """

    def split_digest(self) -> str | None:
        """Digest of the sides into which the job splits it, if it does."""
        return None


class Plan(BaseModel):
    """The settings of a job's work."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @abstractmethod
    def inputs(self) -> Sequence[Input]:
        """What the job reads, in the order in which it is checked. Paths must be absolute by then."""


def check_inputs(inputs: Sequence[Input]) -> dict[str, str]:
    """Check everything that a job reads.

    Returns
    -------
    dict
        Digests of the inputs by the fields that name them, in a fixed order; the run's own digest is chained to them.

    Raises
    ------
    InputError
        Naming the missing or unfitting input.
    """
    found = ((given.field, given.digest()) for given in inputs)
    return {field: digest for field, digest in found if digest is not None}


def split_digest(inputs: Sequence[Input]) -> str | None:
    """Digest of a job's split on its store; None where it has none."""
    found = (given.split_digest() for given in inputs)
    return next((digest for digest in found if digest is not None), None)
