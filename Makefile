# The whole set-up: `make demo` (see it work), `make test`, `make lint`, `make docs`, `make bench`.
# `make demo` installs what running needs; the others add what developing needs.
# A Python is usable when it runs and is 3.11, 3.12 or 3.13; name one with `make PYTHON=/path/to/python3.12 demo`.
VENV := .venv
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3 python; do \
	if $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' >/dev/null 2>&1; \
	then echo $$p; break; fi; done)
PIP = $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
RUNTIME := $(VENV)/.runtime
INSTALLED := $(VENV)/.installed

# `make bench TRAINING_SET=cells.npz` measures speed against plain Optuna and KerasTuner, 40 minutes at most.
TRAINING_SET ?=
BENCH := .bench

.PHONY: demo test test-all lint docs bench training-set bench-demo clean

demo: $(RUNTIME)
	$(VENV)/bin/hpsearch demo

test: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile -m "not slow"

test-all: $(INSTALLED)
	$(VENV)/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile

lint: $(INSTALLED)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict --quiet

bench: training-set $(INSTALLED)
	rm -f $(BENCH)/versus.json
	$(VENV)/bin/python benchmarks/versus.py run "$(TRAINING_SET)" $(BENCH)/versus $(BENCH)/versus.json --seeds 0 --images 1500 --trials 8 --minutes 40

training-set:
	@test -n "$(TRAINING_SET)" || { echo "make bench needs an .npz file with images and labels, as \`hpsearch prepare\` takes it: make bench TRAINING_SET=/path/to/cells.npz" >&2; exit 1; }

bench-demo: $(INSTALLED)
	$(VENV)/bin/python benchmarks/demo_seeds.py

$(RUNTIME): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "hpsearch needs Python 3.11, 3.12 or 3.13 with venv: none of python3.13, python3.12, python3.11, python3 and python is one. Install one, or name it: make PYTHON=/path/to/python3.12 demo" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	touch $@

$(INSTALLED): $(RUNTIME)
	$(PIP) -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build dist site *.egg-info .pytest_cache .mypy_cache .ruff_cache
