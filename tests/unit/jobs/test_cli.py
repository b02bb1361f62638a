import json
import os
import signal
import subprocess
import sys
import textwrap
import time
import types
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict
from typer.testing import CliRunner

from jobs import cli
from jobs.__main__ import main
from jobs.load import LoadedSpec

ROOT = Path(__file__).resolve().parents[3]


class Spec(BaseModel):
    model_config = ConfigDict(extra="forbid")

    kind: Literal["tiny"]
    run: Path
    do: Literal["end", "refuse", "fail"] = "end"


@pytest.fixture
def ran(monkeypatch):
    """A job kind ``tiny`` in place of the real ones; returns what was run."""
    from storage.errors import InputError

    calls = []

    def run(loaded: LoadedSpec, *, local: bool) -> None:
        spec = loaded.spec
        assert isinstance(spec, Spec)
        calls.append((spec, local))
        if spec.do == "refuse":
            raise InputError("runs/x", "holds another run", "Name another folder.")
        if spec.do == "fail":
            raise RuntimeError("bug")

    for name, content in {"jobs.spec": {"SPECS": {"tiny": Spec}}, "jobs.run": {"run": run}}.items():
        module = types.ModuleType(name)
        vars(module).update(content)
        monkeypatch.setitem(sys.modules, name, module)
    return calls


@pytest.fixture
def spec(tmp_path):
    path = tmp_path / "tiny.yaml"
    path.write_text("#!/usr/bin/env -S python -m jobs\nkind: tiny\nrun: runs/x\n")
    return path


def test_module_runs_a_spec(ran, spec):
    main([str(spec), "run=runs/y"])
    main(["--local", str(spec), "run=runs/z", "do=end"])
    assert [(str(s.run), local) for s, local in ran] == [("runs/y", False), ("runs/z", True)]


def test_check_runs_nothing(ran, spec, capsys):
    main([str(spec), "--check"])
    assert ran == []
    assert "valid; digest " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (["do=refuse"], ["error: runs/x: holds another run. Name another folder."]),
        (
            ["do=x", "zz=1"],
            [
                "error: override 'do=x': do: expected one of 'end', 'refuse', 'fail', got 'x'",
                "error: override 'zz=1': zz: unknown key; known keys: kind, run, do",
            ],
        ),
    ],
)
def test_refusals_exit_with_2_and_one_line_each(ran, spec, capsys, overrides, lines):
    with pytest.raises(SystemExit) as caught:
        main([str(spec), *overrides])
    assert caught.value.code == 2
    assert capsys.readouterr().err.splitlines() == lines


def test_bugs_keep_their_traceback(ran, spec):
    with pytest.raises(RuntimeError, match="bug"):
        main([str(spec), "do=fail"])


def test_refusal_wrapped_by_ray_is_still_a_refusal(capsys):
    from jobs.console import exit_discipline
    from storage.errors import InputError

    wrapped = RuntimeError("traceback of a worker")
    wrapped.cause = InputError("store", "has no labels", "Ingest with labels.")  # type: ignore[attr-defined]
    with pytest.raises(SystemExit, match="2"), exit_discipline():
        raise wrapped
    assert capsys.readouterr().err == "error: store: has no labels. Ingest with labels.\n"


def test_e2llm_run_check_and_schema(ran, spec, tmp_path):
    runner = CliRunner()
    assert runner.invoke(cli.app, ["run", str(spec), "run=runs/y"]).exit_code == 0
    assert [local for _, local in ran] == [True]
    assert "valid" in runner.invoke(cli.app, ["check", str(spec)]).output
    assert runner.invoke(cli.app, ["check", str(spec), "run"]).exit_code == 2
    assert json.loads(runner.invoke(cli.app, ["schema"]).output)["required"] == ["kind"]
    target = tmp_path / "schema.json"
    assert runner.invoke(cli.app, ["schema", "--output", str(target)]).exit_code == 0
    assert "tiny" in target.read_text()


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "none.yaml"],
        ["score", "none", "none.edf"],
        ["score", "none", "none.edf", "--output", "x.txt"],
        ["report", "none"],
        ["cluster", "status", "--dir", "none"],
        ["cluster", "up", "--dir", "none", "--host", "here"],
    ],
)
def test_e2llm_refusals(ran, arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(cli.app, arguments)
    assert result.exit_code == 2
    assert result.output.startswith("error: ")
    assert len(result.output.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_unwind_the_stack(number, status):
    program = """
        import signal, time
        from jobs.console import exit_discipline
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell hands it on ignored
        with exit_discipline():
            try:
                print("ready", flush=True)
                time.sleep(30)
            finally:
                print("cleaned up", flush=True)
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(number)
        out, err = process.communicate(timeout=10)
    assert process.returncode == status
    assert out == "cleaned up\n"
    assert "Traceback" not in err


def test_nothing_heavy_is_imported_before_a_spec_is_refused():
    program = """
        import sys
        import jobs.cli, jobs.demo
        from jobs.__main__ import main
        try:
            main(["none.yaml"])
        except SystemExit as end:
            assert end.code == 2
        heavy = {"torch", "ray", "deepspeed", "transformers", "mne", "sklearn"} & sys.modules.keys()
        assert not heavy, heavy
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(program)], cwd=ROOT, check=True, env=dict(os.environ))
