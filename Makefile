# Every target makes its own environment in .venv from plain python3 -m venv and pip.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
DEMO   ?= runs/demo
# One process a core: the tests set one thread each.
JOBS   ?= 2

.PHONY: demo test test-all test-exhaustive lint format bench clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Installing into $(VENV) (once; the download of torch takes a while) ..."
	@$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/lambdanets train digits --out $(DEMO)/digits
	$(BIN)/lambdanets train digits-conv --out $(DEMO)/digits-conv
	$(BIN)/lambdanets compare $(DEMO)/digits $(DEMO)/digits-conv

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/codespell
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not slow and not exhaustive"

test-all: lint
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m "not exhaustive"

# The other members of products such as every file of a run x every damage.
test-exhaustive: $(VENV)/.installed
	$(BIN)/pytest -n $(JOBS) --dist worksteal -m exhaustive

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python benchmarks/ops.py
	$(BIN)/python benchmarks/layers.py
	$(BIN)/python benchmarks/models.py
	$(BIN)/python benchmarks/growth.py --sweeps stages n n-global operator
	$(BIN)/python benchmarks/errors.py
	$(BIN)/python benchmarks/loading.py

clean:
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
