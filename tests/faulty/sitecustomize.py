"""Faults for training processes: on PYTHONPATH, with E2LLM_TEST_FAULT=kind:amount, a stage's losses misbehave.

out-of-memory:4   more than 4 samples do not fit
nan:6             the sixth forward pass of a process gives a loss that is not a number
infinite:6        its loss is a number, its gradients are infinite
hang:6            the sixth forward pass of the first process that reaches it never ends
slow:0.2          every forward pass takes so many seconds longer
"""

import importlib.machinery
import os
import sys
import time
from pathlib import Path

MODULE = "e2llm_core.stages.table"
KIND, _, AMOUNT = os.environ.get("E2LLM_TEST_FAULT", "").partition(":")


def misbehaving(stage):
    import torch

    plain, calls = stage.losses, iter(range(1, 10**9))

    def losses(model, batch):
        call = next(calls)
        if KIND == "out-of-memory" and batch.samples > int(AMOUNT):
            raise torch.OutOfMemoryError("made up")
        if KIND == "slow":
            time.sleep(float(AMOUNT))
        if KIND in ("nan", "infinite", "hang") and call == int(AMOUNT) - 1:
            time.sleep(1)  # the checkpoint before, written beside the steps, counts when the fault comes
        if KIND == "hang" and call == int(AMOUNT) and is_first():
            time.sleep(10**6)
        found = plain(model, batch)
        if KIND == "nan" and call == int(AMOUNT):
            return type(found)(found.total * float("nan"), found.parts)
        if KIND == "infinite" and call == int(AMOUNT):
            nothing = found.total - found.total.detach()
            return type(found)(found.total + nothing.sqrt(), found.parts)
        return found

    stage.losses = losses
    return stage


def is_first():
    try:
        Path(os.environ["E2LLM_TEST_MARK"]).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


class Finder(importlib.machinery.PathFinder):
    """Finds the module as always, and changes what it makes once it is loaded."""

    @classmethod
    def find_spec(cls, fullname, path=None, target=None):
        if fullname != MODULE:
            return None
        spec = super().find_spec(fullname, path, target)
        plain = spec.loader.exec_module

        def exec_module(module):
            plain(module)
            build = module.build_stage
            module.build_stage = lambda plan: misbehaving(build(plan))

        spec.loader.exec_module = exec_module
        return spec


if KIND:
    sys.meta_path.insert(0, Finder)
