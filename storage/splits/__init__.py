"""Splits as data: which trials are used to train, validate and test, with a digest that every result records."""

from storage.splits.config import (
    BySubject,
    Custom,
    HeldOutSession,
    KFoldBySubject,
    LeaveOneSubjectOut,
    OfficialFolds,
    SideConfig,
    SplitConfig,
    SubjectAndClip,
)
from storage.splits.folds import Fold, FoldsConfig, folds_of
from storage.splits.resolve import resolve_split
from storage.splits.sides import AXES, Axis, Side, Split

__all__ = [
    "AXES",
    "Axis",
    "BySubject",
    "Custom",
    "Fold",
    "FoldsConfig",
    "HeldOutSession",
    "KFoldBySubject",
    "LeaveOneSubjectOut",
    "OfficialFolds",
    "Side",
    "SideConfig",
    "Split",
    "SplitConfig",
    "SubjectAndClip",
    "folds_of",
    "resolve_split",
]
