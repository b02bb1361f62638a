"""A run's folder: who owns it, whether it is done, how long it took."""

import json
import time
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from e2llm_core.inputs import finished_digest
from jobs.run_folder import RunFolder, chained_digest
from storage.errors import InputError
from storage.splits import resolve_split

TEXTS = st.text(max_size=8)


@pytest.fixture
def folder(tmp_path):
    return RunFolder(tmp_path / "runs" / "x", "a" * 64)


@pytest.fixture
def clock(monkeypatch):
    """Time that passes only when told to."""
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])

    def passes(seconds: float) -> None:
        now[0] += seconds

    return passes


def interrupt(folder, work):
    with folder.claimed({}, {}):
        work()
        raise KeyboardInterrupt


def test_a_run_that_ends_well_is_done(folder, clock):
    assert not folder.is_done()
    with folder.claimed({"kind": "tiny", "run": "runs/x"}, {"python": "3"}):
        clock(2.5)
        assert not folder.is_done()
        assert not (folder.path / "DONE.json").exists()
    assert folder.is_done()
    done = json.loads((folder.path / "DONE.json").read_text())
    assert (done["digest"], done["wall_seconds"]) == (folder.digest, 2.5)
    assert done["finished"].endswith("+00:00")
    assert (folder.path / "spec.yaml").read_text() == "kind: tiny\nrun: runs/x\n"
    assert json.loads((folder.path / "environment.json").read_text()) == {"python": "3"}
    assert finished_digest(folder.path, "model") == folder.digest


def test_time_adds_up_over_interruptions(folder, clock):
    for seconds in (1.0, 2.0):
        with pytest.raises(KeyboardInterrupt):
            interrupt(folder, partial(clock, seconds))
        assert not folder.is_done()
    with folder.claimed({}, {}):
        clock(4.0)
    assert json.loads((folder.path / "DONE.json").read_text())["wall_seconds"] == 7.0


def test_a_kill_leaves_the_folder_claimed(folder, clock):
    context = folder.claimed({}, {})
    context.__enter__()
    other = RunFolder(folder.path, "b" * 64)
    with pytest.raises(InputError, match=r"an interrupted run .* \(aaaaaaaaaaaa, not bbbbbbbbbbbb\)"):
        other.is_done()
    assert not folder.is_done()
    context.__exit__(None, None, None)


def test_a_full_disk_is_told_by_the_work_and_not_by_the_bookkeeping(folder, monkeypatch):
    def write(*_):
        raise OSError("No space left on device")

    def fill():
        monkeypatch.setattr(RunFolder, "_write", write)

    with pytest.raises(KeyboardInterrupt):
        interrupt(folder, fill)


def test_a_finished_run_belongs_to_its_spec(folder):
    with folder.claimed({}, {}):
        pass
    before = {path: path.read_bytes() for path in folder.path.iterdir()}
    with pytest.raises(InputError, match=r"a finished run .* nothing was changed"):
        RunFolder(folder.path, "b" * 64).is_done()
    assert {path: path.read_bytes() for path in folder.path.iterdir()} == before


def test_an_unfinished_run_has_no_digest(folder):
    with pytest.raises(InputError, match=r"^model: .*: no finished run here\. Run the job that creates it first\.$"):
        finished_digest(folder.path, "model")


def test_a_model_whose_temperatures_changed_is_another_input(root):
    from e2llm_core.inputs import ModelInput

    run, model = root / "run", root / "run" / "model"
    model.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    (run / "DONE.json").write_text(json.dumps({"digest": "made"}))
    named = ModelInput("model", str(model))
    assert named.digest() == "made"
    (model / "calibration.json").write_text("{}")
    calibrated = named.digest()
    (model / "calibration.json").write_text('{"temperatures": []}')
    assert len({"made", calibrated, named.digest()}) == 3


@given(TEXTS, st.lists(TEXTS, max_size=4), st.lists(TEXTS, max_size=4))
def test_the_digest_follows_the_spec_and_every_input(spec, inputs, others):
    digest = chained_digest(spec, inputs)
    assert digest == chained_digest(spec, list(inputs))
    assert (digest == chained_digest(spec, others)) == (inputs == others)
    assert digest != chained_digest(spec + "x", inputs)


def test_a_run_on_changed_data_is_another_run(root, make_store):
    from e2llm_core.plan import check_inputs, split_digest
    from jobs.spec import SPECS

    spec = SPECS["stage1"].model_validate(
        {
            "kind": "stage1",
            "run": root / "run",
            "data": {"store": str(root / "store.zarr"), "split": {"train": 1, "validation": 1, "test": 1}},
        }
    )
    store = make_store(root / "store.zarr")
    before = check_inputs(spec.inputs())
    assert before == check_inputs(spec.inputs()) == {"data.store": store.digest}
    info = store.recordings["s1"].model_copy(update={"ingest_digest": "1" * 64})
    store.write_recording(info, np.zeros((3, info.n_times)))
    assert check_inputs(spec.inputs()) != before
    assert split_digest(spec.inputs()) == resolve_split(spec.data.split, store.trials).digest
