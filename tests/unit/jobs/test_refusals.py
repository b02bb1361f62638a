"""Bad input: one line that names the place and the remedy, status 2, nothing overwritten, no worker started."""

import json
from pathlib import Path

import pytest

from jobs.__main__ import main
from jobs.run_folder import RunFolder

DATA = "data: {store: store.zarr, split: {train: 1, validation: 1, test: 1}}\n"
STAGE1 = f"kind: stage1\nrun: runs/stage1\n{DATA}"
STAGE2 = f"kind: stage2\nrun: runs/stage2\n{DATA}model: {{tower: tower, llm: ./llm}}\n"
STAGE3 = f"kind: stage3\nrun: runs/stage3\n{DATA}model: {{start: aligned}}\n"
EVALUATE = f"kind: evaluate\nrun: runs/evaluation\n{DATA}model: tuned\n"
SCORE = "kind: score\nrun: runs/scores\nstore: store.zarr\nmodel: tuned\n"
SEED_VII = "kind: ingest\nrun: runs/ingest\ndataset: d\nstore: new.zarr\nsource: {format: seed-vii, root: raw}\n"
TINY = (
    "kind: tiny-llm\nrun: runs/tiny-llm\nlabels: {name: two, names: [rest, task]}\n"
    "train: {max_steps: 3, global_batch: 2, micro_batch: 1}\n"
)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("model.name=labram", "override 'model.name=labram': model.name: unknown name 'labram'; one of eegpt"),
        (
            "train.max_stepz=4",
            "override 'train.max_stepz=4': train.max_stepz: unknown key; did you mean 'max_steps'?",
        ),
        (
            "train.max_steps=many",
            "override 'train.max_steps=many': train.max_steps: expected an integer >= 1, got 'many'",
        ),
        (
            "resources.workers=0",
            "override 'resources.workers=0': resources.workers: expected an integer >= 1 or a mapping, got 0",
        ),
        (
            "data.windows={normalisation: session-whitening}",
            "override 'data.windows={normalisation: session-whitening}': data.windows: normalisation "
            "session-whitening needs adaptation: causal or transductive-unlabelled",
        ),
    ],
)
def test_keys_and_values(refused, override, expected):
    assert refused(STAGE1, override) == expected


def test_a_kind_that_does_not_exist(refused):
    line = refused("kind: serve\nrun: runs/serve\n")
    assert line.startswith("job.yaml:1: kind: unknown kind 'serve'")
    assert line.endswith("ingest, tiny-llm, stage1, stage2, stage3, features, corpus, evaluate, score, cross-validate")


def test_a_twin_is_only_written_in_its_own_format(refused):
    source = "{format: files, root: raw, pattern: '(?P<subject>.*)', labels: {name: two, names: [a, b]}}"
    line = refused(SEED_VII.replace("{format: seed-vii, root: raw}", source), "twin={effect: 0.7}")
    assert line == "job.yaml:1: twin writes SEED-VII's layout, so source.format must be seed-vii"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (STAGE1, "ROOT/store.zarr: no EEG store here. Run its ingest job first, or correct `store:`."),
        (
            STAGE1 + "model: {weights: eegpt.safetensors}\n",
            "model.weights: ROOT/eegpt.safetensors: no EEGPT checkpoint here. "
            "Download the published one, or set model.weights=null to start from scratch.",
        ),
        (SEED_VII, "ROOT/raw: no EEG_preprocessed/*.mat. Point `source.root` at SEED-VII's folder."),
        (STAGE3, "model.start: ROOT/aligned: no model here. Run the job that creates it, or correct the path."),
        (SCORE, "ROOT/store.zarr: no EEG store here. Run its ingest job first, or correct `store:`."),
        (
            EVALUATE + "stages: {stage1: runs/stage1}\n",
            "stages.stage1: ROOT/runs/stage1: no finished run here. Run the job that creates it first.",
        ),
    ],
    ids=["store", "weights", "recordings", "model", "scored-store", "evaluated-run"],
)
def test_missing_files(refused, text, expected):
    assert refused(text) == expected


def test_a_store_without_labels(root, refused, make_store, make_model):
    make_store(root / "store.zarr", labels=("rest", None))
    make_model(root / "tower")
    make_model(root / "llm")
    make_model(root / "aligned")
    make_model(root / "tuned")
    expected = "ROOT/store.zarr: 3 of 6 trials have no label (first: s1). Ingest with labels, or score it instead."
    for text in (STAGE1, STAGE2, STAGE3, EVALUATE):
        assert refused(text) == expected


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.split.train=9", "split: asks for 11 subjects, but the store has 3. Lower train, validation or test."),
        ("data.split.reserved=1", "split.reserved: reserves 1 of 1 training subjects. Leave some for stage 1."),
        ("data.windows.window_seconds=9", "ROOT/store.zarr: no trial lasts 9.0 s. Shorten `window_seconds`."),
        ("data.windows.channels=[FP1, CZ]", "has no channel CZ. Correct `windows.channels`; it has FP1, FP2, OZ."),
    ],
)
def test_a_store_that_does_not_fit(root, refused, make_store, override, expected):
    make_store(root / "store.zarr")
    assert refused(STAGE1, override).endswith(expected)


def test_missing_models(root, refused, make_store, make_model):
    make_store(root / "store.zarr")
    remedy = "Run the job that creates it, or correct the path."
    assert refused(STAGE2) == f"model.tower: ROOT/tower: no model here. {remedy}"
    assert refused(EVALUATE) == f"model: ROOT/tuned: no model here. {remedy}"
    assert refused(SCORE) == f"model: ROOT/tuned: no model here. {remedy}"
    make_model(root / "tower")
    assert refused(STAGE2, f"model.llm={root}/llm").startswith("model.llm: ROOT/llm: no model here.")


def test_a_model_of_a_run_that_has_not_finished(root, refused, make_store, make_model):
    make_store(root / "store.zarr")
    make_model(root / "runs" / "stage2" / "model")
    (root / "runs" / "stage2" / "run.json").write_text(json.dumps({"digest": "a", "seconds_spent": 1}))
    line = refused(STAGE3, "model.start=runs/stage2/model")
    assert line == "model.start: ROOT/runs/stage2: no finished run here. Run the job that creates it first."


def test_stage_3_with_another_language_model_than_stage_2(root, refused, make_store, make_model):
    make_store(root / "store.zarr")
    make_model(root / "aligned", llm="Qwen/Qwen3-4B")
    assert refused(STAGE3, "model.llm=Qwen/Qwen3-8B") == (
        "model.llm: Qwen/Qwen3-8B: stage 2 aligned its projector to Qwen/Qwen3-4B. "
        "Run stage 2 with model.llm=Qwen/Qwen3-8B and start from its model."
    )


def leave(root: Path, *overrides: str, finished: bool) -> Path:
    """Leave a run of `TINY` behind, as the job itself would."""
    from jobs.load import load_spec
    from jobs.run import identity
    from jobs.run_folder import chained_digest
    from jobs.spec import SPECS

    (root / "job.yaml").write_text(TINY)
    loaded = load_spec(root / "job.yaml", overrides, SPECS)
    folder = RunFolder(root / "runs" / "tiny-llm", chained_digest(identity(loaded.spec), []))
    try:
        with folder.claimed(loaded.spec.model_dump(mode="json"), {}):
            if not finished:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    return folder.path


@pytest.mark.parametrize(("finished", "state"), [(False, "an interrupted"), (True, "a finished")])
def test_a_folder_of_another_run(root, refused, finished, state):
    leave(root, finished=finished)
    line = refused(TINY, "train.max_steps=4")
    assert line.startswith(f"ROOT/runs/tiny-llm: holds {state} run of a different spec or other inputs (")
    assert line.endswith("Choose another `run:` or remove the folder; nothing was changed.")


def test_a_finished_run_is_not_repeated(root, capsys):
    folder = leave(root, finished=True)
    main(["job.yaml"])
    assert capsys.readouterr().out == f"[tiny-llm] already done: {folder}\n"


@pytest.mark.parametrize("setting", ["resources.workers=7", "train.micro_batch=1", "train.offload=cpu"])
def test_how_a_run_is_computed_is_no_part_of_its_identity(root, capsys, setting):
    """A run that was short of memory goes on in smaller pieces."""
    leave(root, finished=True)
    main(["job.yaml", setting])
    assert "already done" in capsys.readouterr().out


def test_an_uploaded_copy_is_no_place_for_runs(tmp_path, monkeypatch, capsys):
    uploaded = tmp_path / "runtime_resources" / "working_dir_files" / "_ray_pkg_1"
    uploaded.mkdir(parents=True)
    monkeypatch.chdir(uploaded)
    monkeypatch.delenv("E2LLM_ROOT", raising=False)
    (uploaded / "job.yaml").write_text(TINY)
    with pytest.raises(SystemExit, match="2"):
        main(["job.yaml"])
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: run: the job's folder is an uploaded copy that Ray deletes. Name the folder")
    assert "E2LLM_ROOT" in line
    assert [path.name for path in uploaded.iterdir()] == ["job.yaml"]
