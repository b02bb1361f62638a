"""Label sets: the closed list of a store's classes."""

from pydantic import BaseModel, ConfigDict, Field, field_validator

from storage.errors import InputError


class LabelSet(BaseModel):
    """An ordered, named set of class names; the position of a name is its id."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(min_length=1)
    names: tuple[str, ...] = Field(min_length=2)

    @field_validator("names")
    @classmethod
    def _distinct(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(names)) != len(names):
            raise ValueError(f"label names must differ, got {names}")
        return names

    def id_of(self, label: str) -> int:
        """Return the id of `label`; raises `InputError` when it is not in the set."""
        if label not in self.names:
            raise InputError(
                f"label {label!r}", f"not in label set {self.name}", f"Use one of: {', '.join(self.names)}."
            )
        return self.names.index(label)

    def __len__(self) -> int:
        return len(self.names)


SEED_VII = LabelSet(name="SEED-VII", names=("disgust", "fear", "sad", "neutral", "happy", "anger", "surprise"))
"""SEED-VII's seven emotions in the order of the official ids 0..6."""

SEED = LabelSet(name="SEED", names=("negative", "neutral", "positive"))
"""SEED's three emotions; the data set writes them as -1, 0, 1."""

SEED_IV = LabelSet(name="SEED-IV", names=("neutral", "sad", "fear", "happy"))
"""SEED-IV's four emotions in the order of the official ids 0..3."""

SEED_V = LabelSet(name="SEED-V", names=("disgust", "fear", "sad", "neutral", "happy"))
"""SEED-V's five emotions in the order of the official ids 0..4."""

FACED = LabelSet(
    name="FACED",
    names=("anger", "disgust", "fear", "sadness", "neutral", "amusement", "inspiration", "joy", "tenderness"),
)
"""FACED's nine emotions in the order of its clips."""
