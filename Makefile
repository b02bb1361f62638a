# `make demo` and `make test` need python3 (3.11 or newer), g++ and make; they install the rest into .venv.
#
# PYTHON=python3.12        another interpreter
# PIP_TORCH="--index-url <index>"   another torch build (CUDA, ROCm, CPU only); the default is pip's own choice

PYTHON    ?= python3
PIP_TORCH ?=
VENV      := .venv
BIN       := $(VENV)/bin
STAMP     := $(VENV)/.installed
WORKERS   := $(shell expr $$(getconf _NPROCESSORS_ONLN) + 1)
# pip's output, such as warnings about the machine's settings, goes to a log that is shown if pip fails.
INSTALL    = $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --constraint constraints.txt
PIP_LOG    = 2>> $(VENV)/pip.log || { cat $(VENV)/pip.log >&2; exit 1; }
BENCHMARKS = $(wildcard benchmarks/[!_]*.py)

export OMP_NUM_THREADS ?= 1
# Keep bytecode from the first import; otherwise many short processes would compile torch again and again.
export PYTHONDONTWRITEBYTECODE :=
export PATH := $(abspath $(BIN)):$(PATH)

.DEFAULT_GOAL := help
.PHONY: help demo test lint format drills drills-short bench clean cluster-down .venv

help:
	@echo "make demo          everything once, on synthetic data, with a report to look at"
	@echo "make test          lint, types and all tests"
	@echo "make lint format   the checks alone; let ruff repair what it can"
	@echo "make bench         benchmarks"
	@echo "make drills        fault drills in their long form; make drills-short: one fault each"
	@echo "make cluster-down  end a local cluster that was left running"
	@echo "make clean         remove caches and runs/demo (keeps .venv)"

.venv: $(STAMP)

# Byte-compiling all 150 packages takes longer than compiling modules when they are imported.
$(STAMP): constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(None if sys.version_info >= (3, 11) else "error: $(PYTHON): is Python " + sys.version.split()[0] + ". Name 3.11 or newer: make PYTHON=python3.12")'
	@command -v $${CXX:-g++} >/dev/null || { echo "error: g++: not found. DeepSpeed builds its CPU communication with it; install a C++ compiler." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	@rm -f $(VENV)/pip.log
	$(INSTALL) $(PIP_TORCH) torch $(PIP_LOG)
	$(INSTALL) --editable '.[test]' $(PIP_LOG)
	@touch $@

demo: $(STAMP)
	@$(BIN)/python -m jobs.demo

# Quick tests leave cores idle, hence one process more than cores. Slow ones start clusters and spend half of the time
# waiting: two processes, whatever the number of cores. Tests that share a Ray come last (tests/integration/conftest.py).
test: lint
	$(BIN)/python -m pytest -m 'not slow' --numprocesses=$(WORKERS) --dist=loadfile --durations=10
	$(BIN)/python -m pytest -m slow --numprocesses=2 --dist=loadgroup --no-loadscope-reorder --durations=25

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

DRILLS = $(BIN)/python -m pytest tests/drills --override-ini=timeout=3600 --numprocesses=2 --dist=loadfile --durations=0 --durations-min=1 --results=benchmarks/results/drills.json

drills: $(STAMP)
	$(DRILLS)

drills-short: $(STAMP)
	DRILL_FAULTS=1 $(DRILLS) -m 'not long'

bench: $(STAMP)
	@test -n "$(BENCHMARKS)" || { echo "error: benchmarks/: holds no benchmark. Add benchmarks/<name>.py." >&2; exit 2; }
	@for file in $(BENCHMARKS); do $(BIN)/python $$file || exit 1; done

cluster-down: $(STAMP)
	@$(BIN)/e2llm cluster down --dir runs/demo/.cluster
	@$(BIN)/e2llm cluster down

clean:
	rm -rf runs/demo .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
