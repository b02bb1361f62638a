"""Split protocols that a spec can name, each with its keys."""

from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from storage.splits.sides import Axis, without_empty

Count = Annotated[int, Field(ge=0, strict=True)]
Names = Count | tuple[str, ...]
"""Subjects or sessions: the number to draw, or their names."""
Clips = Count | tuple[int, ...]
"""Clips: the number to draw, evenly over the labels, or the clip numbers themselves."""


class LeavingOut(BaseModel):
    """Labels that nothing is trained on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    left_out: tuple[str, ...] = Field((), description="labels whose trials are on no side but the test side")

    @model_serializer(mode="wrap")
    def _without_nothing(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """As it was before labels could be left out, where none is: the identity of a run depends on it."""
        return without_empty(plain(self), "left_out")


class _Protocol(LeavingOut):
    """Keys of every protocol: the seed of its draws, and the number of subjects that stage 1 does not see."""

    reserved: int = Field(0, ge=0, description="training subjects that stage 1 does not fit; stages 2-3 see them")
    seed: int = Field(0, ge=0)


def assert_one_kind(train: Names, validation: Names, test: Names) -> None:
    """Raise `ValueError` if some roles are numbers of subjects to draw and others are lists of names."""
    if len({type(role) for role in (train, validation, test)}) > 1:
        raise ValueError("train, validation and test must all be numbers or all be lists of subjects")


class _Roles(_Protocol):
    """Subjects of each role, all given as numbers or all as lists."""

    train: Names = 12
    validation: Names = 3
    test: Names = 5

    @model_validator(mode="after")
    def _one_kind(self) -> "_Roles":
        assert_one_kind(self.train, self.validation, self.test)
        return self


class BySubject(_Roles):
    """Every subject has one role; roles are lists of names, or numbers of subjects to draw with `seed`."""

    protocol: Literal["by-subject"] = "by-subject"


class KFoldBySubject(_Protocol):
    """Subjects are dealt into folds with `seed`; one fold is the test side."""

    protocol: Literal["k-fold-by-subject"]
    num_folds: int = Field(5, ge=2)
    fold: int = Field(ge=1)
    validation: Count = 3

    @model_validator(mode="after")
    def _fold_exists(self) -> "KFoldBySubject":
        if self.fold > self.num_folds:
            raise ValueError(f"fold {self.fold} of {self.num_folds} does not exist")
        return self


class LeaveOneSubjectOut(_Protocol):
    """One subject is the test side: by name, or by its place (from 1) in the sorted list as `fold`."""

    protocol: Literal["leave-one-subject-out"]
    subject: str | None = None
    fold: Annotated[int, Field(ge=1)] | None = None
    validation: Count = 3

    @model_validator(mode="after")
    def _one_way(self) -> "LeaveOneSubjectOut":
        if (self.subject is None) == (self.fold is None):
            raise ValueError("give either subject or fold")
        return self


class OfficialFolds(_Protocol):
    """SEED-VII's published four folds of 20 clips; every subject is on every side.

    With a single subject in `subjects`, this is the within-subject protocol.
    """

    protocol: Literal["official-folds"]
    fold: int = Field(ge=1, le=4)
    subjects: tuple[str, ...] | None = None
    validation: Clips = 7


class HeldOutSession(_Protocol):
    """Test sessions that training never saw; a session is identified by its name over all subjects."""

    protocol: Literal["held-out-session"]
    test: tuple[str, ...] = Field(min_length=1)
    validation: Names = 0


class SubjectAndClip(_Roles):
    """Tests on unseen subjects and unseen clips: the test side has the test clips of the test subjects.

    Trials of test subjects with training clips, and of training subjects with test clips, are left out.
    """

    protocol: Literal["subject-and-clip"]
    test_clips: Clips = 20
    validation_clips: Clips = 14


class SideConfig(BaseModel):
    """Trials of these subjects, sessions and clips; null means all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    subjects: tuple[str, ...] | None = None
    sessions: tuple[str, ...] | None = None
    clips: tuple[int, ...] | None = None


class Custom(_Protocol):
    """Sides given one by one, with the axes on which they must be disjoint."""

    protocol: Literal["custom"]
    train: SideConfig
    validation: SideConfig | None = None
    test: SideConfig
    disjoint_on: tuple[Axis, ...] = Field(description="no two sides may share a value of these")


def by_subject_unless_named(value: Any) -> Any:
    """Treat keys without a `protocol` as those of by-subject."""
    return {"protocol": "by-subject"} | value if isinstance(value, dict) else value


SplitConfig = Annotated[
    Annotated[
        BySubject | KFoldBySubject | LeaveOneSubjectOut | OfficialFolds | HeldOutSession | SubjectAndClip | Custom,
        Field(discriminator="protocol"),
    ],
    BeforeValidator(by_subject_unless_named),
]
"""Any protocol; by-subject if none is named."""
