# Two commands are all there is to know: `make run` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH := torch==2.13.0

# A stamp for each kind of installation, renewed when the list of dependencies changes.
$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	@echo "Installing $(TORCH) first, so that nothing else pulls another build ..."
	$(BIN)/python -m pip install --quiet $(TORCH) $(if $(TORCH_INDEX_URL),--index-url $(TORCH_INDEX_URL))
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

.PHONY: install run test test-nightly bench lint format peers browser clean

install: $(VENV)/installed

run: $(VENV)/installed
	$(BIN)/triage demo

# Real peers for the tests: a PACS, the DICOM toolkits, a browser. Only where apt can install them.
peers:
	@sh tests/install-peers.sh

browser: peers
	@sh tests/browser/install.sh

test: $(VENV)/installed-dev peers browser
	$(BIN)/python -m pytest -q -m "not nightly" --durations=15 --numprocesses=2 --dist=loadfile

test-nightly: $(VENV)/installed-dev peers browser
	$(BIN)/python -m pytest -q --timeout=3600

bench: $(VENV)/installed-dev peers
	$(BIN)/python -m benchmarks

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) triage-data .pytest_cache .mypy_cache .ruff_cache
