"""The sides that baselines are fitted to. Light to import."""

from storage.errors import InputError
from storage.splits import Side, Split


def with_validation(split: Split) -> dict[str, Side]:
    """The split's sides; without a validation side, the last training subject becomes one.

    Raises
    ------
    InputError
        If there is no validation side and only one training subject.
    """
    if split.validation is not None:
        return split.sides
    *fitted, last = split.train.subjects
    if not fitted:
        raise InputError(
            "data.split", "the baseline needs validation trials to choose its cost", "Give the split a validation side."
        )
    return {"train": split.train.of(tuple(fitted)), "validation": split.train.of((last,)), "test": split.test}
