import json
import pickle
import textwrap
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from jobs.load import LoadedSpec, SpecErrors, json_schema, load_spec
from storage.errors import InputError


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Adam(Strict):
    name: Literal["adam"] = "adam"
    beta: float = Field(default=0.9, gt=0, lt=1)


class Sgd(Strict):
    name: Literal["sgd"] = "sgd"
    momentum: float = 0.0


class Train(Strict):
    max_steps: int = Field(default=10, ge=1)
    lr: float = Field(default=1e-3, gt=0, le=1)
    precision: Literal["fp32", "bf16"] = "bf16"
    warmup: int | None = Field(default=None, ge=0)
    devices: Literal["auto"] | int = "auto"
    bands: tuple[Adam, ...] = ()
    pair: tuple[int, int] = (1, 2)
    optimizer: Annotated[Adam | Sgd, Field(discriminator="name")] = Adam()
    weights: dict[str, float] = {}
    shuffle: bool = True

    @model_validator(mode="after")
    def _warmup_fits(self) -> "Train":
        if self.warmup is not None and self.warmup > self.max_steps:
            raise ValueError(f"warmup ({self.warmup}) is longer than max_steps ({self.max_steps})")
        return self


class Stage(Strict):
    kind: Literal["stage1"] = "stage1"
    run: Path
    train: Train = Train()

    @field_validator("run")
    @classmethod
    def _not_root(cls, run: Path) -> Path:
        if run == Path("/"):
            raise InputError("run", "is the root folder", "Name a folder.")
        return run


class Other(Strict):
    kind: Literal["ingest"] = "ingest"
    run: Path


SPECS = {"stage1": Stage, "ingest": Other}


@pytest.fixture
def load(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def load(text: str, *overrides: str) -> LoadedSpec:
        Path("s.yaml").write_text(textwrap.dedent(text), encoding="utf-8")
        return load_spec(Path("s.yaml"), overrides, SPECS)

    return load


@pytest.fixture
def refused(load):
    def refused(text: str, *overrides: str) -> tuple[str, ...]:
        with pytest.raises(SpecErrors) as caught:
            load(text, *overrides)
        assert isinstance(caught.value, InputError)
        assert str(caught.value) == "\n".join(caught.value.lines)
        return caught.value.lines

    return refused


GOOD = "#!/usr/bin/env -S python -m jobs\nkind: stage1\nrun: runs/x\n"


def test_valid_spec_keeps_text_and_path(load):
    loaded = load(GOOD)
    assert loaded.spec == Stage(run=Path("runs/x"))
    assert loaded.text == GOOD
    assert loaded.path == Path("s.yaml")
    assert loaded.overrides == ()


def test_digest_depends_on_settings_only(load):
    plain = load(GOOD).digest
    assert load("run: runs/x\nkind: stage1\ntrain: {max_steps: 10}\n").digest == plain
    assert load(GOOD, "train.max_steps=10").digest == plain
    assert load(GOOD, "train.max_steps=11").digest != plain
    assert len(plain) == 64


def test_exponents_without_a_point_are_numbers(load):
    assert load(GOOD + "train:\n  lr: 1e-4\n").spec.train.lr == 1e-4
    assert load(GOOD, "train.lr=2E-4").spec.train.lr == 2e-4


@pytest.mark.parametrize(
    ("override", "get", "value"),
    [
        ("train.max_steps=7", lambda s: s.train.max_steps, 7),
        ("train.warmup=null", lambda s: s.train.warmup, None),
        ("train.bands.1.beta=0.5", lambda s: s.train.bands[1].beta, 0.5),
        ("train.pair=[3, 4]", lambda s: s.train.pair, (3, 4)),
        ("train.pair.1=9", lambda s: s.train.pair, (1, 9)),
        ("train.optimizer={name: sgd, momentum: 1.0}", lambda s: s.train.optimizer.name, "sgd"),
        ("train.weights.0=1.5", lambda s: s.train.weights, {"0": 1.5}),
        ("run=a=b", lambda s: s.run, Path("a=b")),
    ],
)
def test_overrides(load, override, get, value):
    text = GOOD + "train:\n  warmup: 2\n  pair: [1, 2]\n  bands:\n    - beta: 0.1\n    - beta: 0.2\n"
    assert get(load(text, override).spec) == value


def test_last_override_wins_and_can_fill_an_empty_section(load):
    loaded = load(GOOD + "train:\n", "train.max_steps=3", "train.max_steps=4")
    assert loaded.spec.train.max_steps == 4


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("train:\n  max_stepz: 4\n", "s.yaml:5: train.max_stepz: unknown key; did you mean 'max_steps'?"),
        ("trian: {}\n", "s.yaml:4: trian: unknown key; did you mean 'train'?"),
        ("zzz: 1\n", "s.yaml:4: zzz: unknown key; known keys: kind, run, train"),
        ("train:\n  max_steps: many\n", "s.yaml:5: train.max_steps: expected an integer >= 1, got 'many'"),
        ("train:\n  max_steps: 0\n", "s.yaml:5: train.max_steps: expected an integer >= 1, got 0"),
        ("train:\n  max_steps:\n", "s.yaml:5: train.max_steps: expected an integer >= 1, got null"),
        (
            "train:\n  max_steps: {a: 1}\n",
            "s.yaml:5: train.max_steps: expected an integer >= 1, got a mapping",
        ),
        ("train:\n  lr: 2\n", "s.yaml:5: train.lr: expected a number > 0 and <= 1, got 2"),
        ("train:\n  warmup: -1\n", "s.yaml:5: train.warmup: expected an integer >= 0 or null, got -1"),
        (
            "train:\n  precision: bf61\n",
            "s.yaml:5: train.precision: expected one of 'fp32', 'bf16', got 'bf61'; did you mean 'bf16'?",
        ),
        (
            "train:\n  devices: aut\n",
            "s.yaml:5: train.devices: expected 'auto' or an integer, got 'aut'; did you mean 'auto'?",
        ),
        ("train:\n  shuffle: 3\n", "s.yaml:5: train.shuffle: expected true or false, got 3"),
        ("train: 3\n", "s.yaml:4: train: expected a mapping, got 3"),
        ("train:\n  pair: [1]\n", "s.yaml:5: train.pair.1: required key is missing; expected an integer"),
        (
            "train:\n  bands:\n    - beta: 0.1\n    - beta: 7\n",
            "s.yaml:7: train.bands.1.beta: expected a number > 0 and < 1, got 7",
        ),
        (
            "train:\n  optimizer: {name: adan}\n",
            "s.yaml:5: train.optimizer.name: unknown name 'adan'; did you mean 'adam'? One of adam, sgd",
        ),
        ("train:\n  optimizer: {beta: 0.1}\n", "s.yaml:5: train.optimizer.name: required key is missing"),
        (
            "train:\n  optimizer: {name: adam, betta: 0.1}\n",
            "s.yaml:5: train.optimizer.betta: unknown key; did you mean 'beta'?",
        ),
        (
            "train:\n  optimizer:\n    name: adam\n    beta: 2\n",
            "s.yaml:7: train.optimizer.beta: expected a number > 0 and < 1, got 2",
        ),
        ("train:\n  weights: {a: x}\n", "s.yaml:5: train.weights.a: expected a number, got 'x'"),
        (
            "train:\n  warmup: 20\n",
            "s.yaml:4: train: warmup (20) is longer than max_steps (10)",
        ),
        ("run: /\n", "s.yaml:4: run: key given twice; first on line 3"),
        ("1: x\n", "s.yaml:4: 1: keys must be text; quote it"),
    ],
)
def test_refusals_name_the_place(refused, body, expected):
    assert expected in refused(GOOD + body)


def test_refusal_of_a_validator_is_one_line(refused):
    assert refused("kind: stage1\nrun: /\n") == ("s.yaml:2: run: run: is the root folder. Name a folder.",)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.max_steps", "override 'train.max_steps': expected key.path=value"),
        ("train..x=1", "override 'train..x=1': the key path has an empty part; expected key.path=value"),
        ("train.lr=[1,", "override 'train.lr=[1,': the value is not valid YAML; quote it"),
        (
            "train.max_stepz=1",
            "override 'train.max_stepz=1': train.max_stepz: unknown key; did you mean 'max_steps'?",
        ),
        ("trian.lr=1", "override 'trian.lr=1': trian: unknown key; did you mean 'train'?"),
        (
            "train.max_steps=x",
            "override 'train.max_steps=x': train.max_steps: expected an integer >= 1, got 'x'",
        ),
        ("run.x=1", "override 'run.x=1': run is a single value, not a mapping"),
        (
            "train.pair.2=1",
            "override 'train.pair.2=1': train.pair is a list of 2; expected an item number from 0 to 1, got '2'",
        ),
        (
            "kind=stage2",
            "override 'kind=stage2': kind: unknown kind 'stage2'; did you mean 'stage1'? One of stage1, ingest",
        ),
    ],
)
def test_override_refusals(refused, override, expected):
    assert refused(GOOD + "train:\n  pair: [1, 2]\n", override) == (expected,)


def test_all_problems_are_reported_together_in_file_order(refused):
    lines = refused("kind: stage1\nrun: 3\ntrain:\n  lr: x\n  bad: 1\nrun: y\n", "nonsense", "train.shuffle=7")
    assert len(lines) == 5
    assert lines[0] == "s.yaml:6: run: key given twice; first on line 2"
    assert lines[1].startswith("override 'nonsense'")
    assert [line.split(": ")[0] for line in lines[2:]].count("override 'train.shuffle=7'") == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "s.yaml: the spec is empty; its first key must be 'kind'"),
        ("# only a comment\n", "s.yaml: the spec is empty; its first key must be 'kind'"),
        ("- a\n", "s.yaml:1: expected a mapping of keys to values, got list"),
        ("run: x\n", "s.yaml:1: kind: required key is missing; one of stage1, ingest"),
        (
            "kind: stag1\nrun: x\n",
            "s.yaml:1: kind: unknown kind 'stag1'; did you mean 'stage1'? One of stage1, ingest",
        ),
        ("kind: [a]\n", "s.yaml:1: kind: unknown kind ['a']; one of stage1, ingest"),
        ("kind: stage1\n", "s.yaml:1: run: required key is missing; expected a path"),
        (
            "kind: stage1\nrun: [\n",
            "s.yaml:3: not valid YAML: expected the node content, but found '<stream end>'",
        ),
        (
            "kind: stage1\n\trun: x\n",
            "s.yaml:2: not valid YAML: found character '\\t' that cannot start any token",
        ),
        ("kind: a\n---\nkind: b\n", "s.yaml:2: not valid YAML: but found another document"),
        ("kind: !!python/object:os.system {}\n", None),
        ("a: &a [*a]\nkind: stage1\nrun: x\n", "s.yaml:1: a: unknown key; known keys: kind, run, train"),
    ],
)
def test_broken_files(refused, text, expected):
    lines = refused(text)
    assert len(lines) == 1
    assert expected is None or lines[0] == expected


def test_unreadable_files(tmp_path):
    binary = tmp_path / "b.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    for path, problem in (
        (tmp_path / "none.yaml", "no such file"),
        (tmp_path, "is a folder"),
        (binary, "is not UTF-8 text"),
    ):
        with pytest.raises(SpecErrors, match=problem):
            load_spec(path, [], SPECS)


def test_errors_survive_pickling():
    error = SpecErrors(["a.yaml:1: x: bad", "a.yaml:2: y: bad"])
    again = pickle.loads(pickle.dumps(error))
    assert again.lines == error.lines
    assert str(again) == str(error)


def test_schema_covers_every_kind():
    schema = json_schema(SPECS)
    assert schema["properties"]["kind"]["enum"] == ["stage1", "ingest"]
    assert len(schema["oneOf"]) == 2
    assert set(schema["$defs"]) >= {"Stage", "Other", "Train"}
    json.dumps(schema)
    jsonschema = pytest.importorskip("jsonschema")
    validator = jsonschema.Draft202012Validator(schema)
    assert validator.is_valid({"kind": "stage1", "run": "x", "train": {"max_steps": 3}})
    assert not validator.is_valid({"kind": "stage1", "run": "x", "train": {"max_stepz": 3}})
    assert not validator.is_valid({"run": "x"})
