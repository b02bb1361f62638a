"""Small specs of a chain and of its cross-validation, as files in a folder."""

from pathlib import Path
from typing import Any

import pandas as pd
import yaml

TOWER = {"dim": 16, "depth": 1, "num_heads": 2, "temporal_dim": 16, "temporal_depth": 1, "temporal_heads": 2}
STAGE1 = {
    "kind": "stage1",
    "run": "runs/stage1",
    "data": {
        "store": "store.zarr",
        "windows": {"window_seconds": 1.0, "stride_seconds": 1.0},
        "split": {"train": 1, "validation": 1, "test": 1},
    },
    "model": TOWER,
    "train": {"max_steps": 4, "global_batch": 4, "micro_batch": 4, "checkpoint_every": 2},
}
EVALUATE = {
    "kind": "evaluate",
    "run": "runs/evaluation",
    "data": STAGE1["data"],
    "model": "runs/stage1/model",
    "stages": {"tiny-llm": "runs/tiny-llm", "stage1": "runs/stage1"},
    "num_pairs": 10,
}
CROSS_VALIDATE = {
    "kind": "cross-validate",
    "run": "runs/all",
    "chain": [{"spec": "stage1.yaml"}, {"spec": "evaluate.yaml"}],
    "folds": {"protocol": "leave-one-subject-out", "validation": 1},
    "seeds": [0, 1],
}

TRIALS = pd.DataFrame(
    {
        "subject": [subject for subject in ("s1", "s2", "s3", "s4") for _ in range(2)],
        "session": "1",
        "trial": [1, 2] * 4,
        "clip": [1, 2] * 4,
        "recording_id": [subject for subject in ("s1", "s2", "s3", "s4") for _ in range(2)],
        "start": [0, 5] * 4,
        "stop": [5, 10] * 4,
        "label": ["rest", "task"] * 4,
    }
)
"""Of four subjects, as a store has them."""


def write_chain(folder: Path, **changes: Any) -> Path:
    """Write the specs of the chain, with changes to the cross-validation's, and return the latter's file."""
    contents = {"stage1": STAGE1, "evaluate": EVALUATE, "cross_validate": CROSS_VALIDATE | changes}
    for name, content in contents.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    return folder / "cross_validate.yaml"
