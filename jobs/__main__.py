"""Run one job spec: ``python -m jobs SPEC [key=value ...] [--local] [--check]``.

This is the interpreter that the first line of every shipped spec names.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path

from jobs.console import exit_discipline


def main(arguments: Sequence[str] | None = None) -> None:
    """Validate a spec and run it.

    Parameters
    ----------
    arguments : sequence of str, optional
        Command line without the program's name; default: this process's.

    Raises
    ------
    SystemExit
        With status 2 for a refused spec or command line.
    """
    parser = argparse.ArgumentParser(prog="python -m jobs", description="Run an E2-LLM job spec.")
    parser.add_argument("spec", type=Path, help="YAML file, for example jobs/stage1.yaml")
    parser.add_argument("overrides", nargs="*", metavar="key.path=value", help="settings that replace the file's")
    parser.add_argument("--local", action="store_true", help="on this machine, without a running cluster")
    parser.add_argument("--check", action="store_true", help="validate only")
    options = parser.parse_intermixed_args(arguments)
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)  # progress is read through a pipe
    with exit_discipline():
        execute(options.spec, options.overrides, local=options.local, check=options.check)


def execute(path: Path, overrides: Sequence[str], *, local: bool, check: bool) -> None:
    """Load a spec and, unless it is only to be checked, run its job.

    Parameters
    ----------
    path : Path
        The spec.
    overrides : sequence of str
        ``key.path=value`` assignments.
    local : bool
        Start a private Ray on this machine instead of joining a cluster.
    check : bool
        Stop after validation and print the digest.
    """
    from jobs.job import Job, absolute
    from jobs.load import load_spec
    from jobs.paths import root_folder
    from jobs.spec import SPECS

    loaded = load_spec(path, overrides, SPECS)
    if check:
        print(f"{path}: valid; digest {loaded.digest}")
        if isinstance(loaded.spec, Job):
            absolute(loaded.spec, root_folder()).preview()
        return
    from jobs.run import run

    run(loaded, local=local)


if __name__ == "__main__":
    main()
