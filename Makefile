# Everything runs in .venv, made on first use:  make quickstart | test | lint | bench
# The quickstart with a graph network:  make quickstart CONFIG=conf/quickstart_gnn.yaml
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
OPTIONS ?=
CONFIG ?= conf/quickstart.yaml

.PHONY: install quickstart test lint bench wheel docs

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@

quickstart: install
	$(BIN)/python main.py fit --config $(CONFIG) $(OPTIONS)

# Three at a time on two cores, for many tests wait for processes that they start. Sources are
# compiled once, and not by each of those processes, even where the environment asks for that.
test: install
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --numprocesses 3 --dist worksteal $(OPTIONS)

lint: install
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

docs: install
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

wheel: install
	$(BIN)/python -m pip wheel --quiet --no-deps --wheel-dir dist .

bench: install
	for script in fitting shapes dwsnet neural_graphs augmentations alignment training_loop memory; do $(BIN)/python benchmarks/$$script.py || exit 1; done
