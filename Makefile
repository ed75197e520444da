# Two commands do all the set-up on a fresh machine: `make demo` and `make test`.
# TORCH chooses torch's build: auto (CPU unless nvidia-smi finds a GPU), cpu or gpu.
# TORCH_INDEX adds the package index to look for that build in, for machines whose pip is not set up for it.
TORCH ?= auto
TORCH_INDEX ?=
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test check proto proto-check dashboards dashboards-check lock format clean

install: .venv/.installed

.venv/.installed: pyproject.toml requirements.lock deploy/install.sh
	PYTHON=$(PYTHON) TORCH=$(TORCH) TORCH_INDEX=$(TORCH_INDEX) deploy/install.sh .venv
	touch $@

demo: install
	$(BIN)/python bench/demo.py

check: install proto-check dashboards-check
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -n auto -m "not slow" tests/unit tests/scenarios

test: check
	$(BIN)/pytest -q -n auto -m slow tests/unit tests/scenarios
	$(BIN)/pytest -q -n auto --hypothesis-profile=full -m hypothesis tests/unit/optimizer tests/unit/energy tests/unit/meterd/test_shares.py tests/unit/fleet
	$(BIN)/python bench/fuzz_wire.py
	$(BIN)/pytest -q tests/histories tests/system
	$(BIN)/pytest -q tests/containers

proto: install
	$(BIN)/python -m grpc_tools.protoc -I proto --python_out=. --grpc_python_out=. --pyi_out=. proto/fleet/v1/*.proto

proto-check: install
	deploy/proto-check.sh $(BIN)/python

dashboards: install
	$(BIN)/python -m dashboards

dashboards-check: install
	$(BIN)/python -m dashboards --check

lock: install
	deploy/lock.sh

format: install
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean:
	rm -rf .venv build dist .mypy_cache .ruff_cache .pytest_cache
