"""Faults for training processes: on PYTHONPATH, with E2LLM_TEST_FAULT=kind:amount,..., a stage's losses misbehave.

out-of-memory:4   more than 4 samples do not fit
nan:6             the sixth forward pass of a process gives a loss that is not a number
infinite:6        its loss is a number, its gradients are infinite
hang:6            the sixth forward pass of the first process that reaches it never ends
hold:6            the sixth forward pass of a process waits until it is let go
slow:0.2          every forward pass takes so many seconds longer until it is let go

It is let go by the file E2LLM_TEST_MARK.go.
"""

import importlib.machinery
import os
import sys
import time
from pathlib import Path

MODULE = "e2llm_core.stages.config"


def faults():
    asked = os.environ.get("E2LLM_TEST_FAULT", "")
    return {kind: float(amount) for kind, amount in (each.split(":") for each in asked.split(",") if each)}


def misbehaving(stage):
    import torch

    given, plain, calls = faults(), stage.losses, iter(range(1, 10**9))

    def losses(model, batch):
        call = next(calls)
        due = {kind for kind in given if given[kind] == call}
        if batch.samples > given.get("out-of-memory", batch.samples):
            raise torch.OutOfMemoryError("made up")
        if not was_let_go():
            time.sleep(given.get("slow", 0))
        while "hold" in due and not was_let_go():
            time.sleep(0.02)
        if "hang" in due and is_first():
            time.sleep(10**6)
        found = plain(model, batch)
        if "nan" in due:
            return type(found)(found.total * float("nan"), found.parts)
        if "infinite" in due:
            nothing = found.total - found.total.detach()
            return type(found)(found.total + nothing.sqrt(), found.parts)
        return found

    stage.losses = losses
    return stage


def was_let_go():
    return Path(os.environ["E2LLM_TEST_MARK"] + ".go").exists()


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


if faults():
    sys.meta_path.insert(0, Finder)
