# `make demo` and `make test` build .venv from the lock and run. Needs Python 3.11 to 3.13.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
TORCH := .venv-torch
ENGINES := .venv-engines

.PHONY: demo test test-slow test-all test-torch test-engines lint docs bench release lock clean

demo: $(READY)
	$(BIN)/python examples/demo.py

test: $(READY)
	$(BIN)/python -m pytest -m "not slow"

test-slow: $(READY)
	$(BIN)/python -m pytest -m slow

test-all: $(READY)
	$(BIN)/python -m pytest

test-torch: $(TORCH)/.ready
	$(TORCH)/bin/python -m pytest tests/test_torch.py

# Ray, Spark (which needs Java) and Dask, in an environment of their own: they are large.
test-engines: $(ENGINES)/.ready
	$(ENGINES)/bin/python -m pytest -n 0 tests/engines

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	PATH="$(CURDIR)/$(BIN):$$PATH" pyright --verifytypes scoreode --ignoreexternal --outputjson \
		| $(BIN)/python .ci/public_types.py
	$(BIN)/lint-imports

docs: $(READY)
	$(BIN)/mkdocs build --strict

bench: $(READY)
	$(BIN)/python benchmarks/step_time.py

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "scoreode needs Python 3.11 to 3.13; name one: make PYTHON=python3.12 ..."; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	touch $(READY)

# Builds, and installs and runs what was built, in every Python from 3.11 to 3.13 that is there.
release:
	.ci/release

# Apart from the lock: PyTorch of PyPI has several GB for graphics cards. PIP_EXTRA_INDEX_URL can name
# an index that has it without.
$(TORCH)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(TORCH)
	$(TORCH)/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	$(TORCH)/bin/python -m pip install --quiet --no-build-isolation -e '.[torch]'
	touch $(TORCH)/.ready

$(ENGINES)/.ready: requirements.lock pyproject.toml
	$(PYTHON) -m venv $(ENGINES)
	$(ENGINES)/bin/python -m pip install --quiet --require-hashes -r requirements.lock
	$(ENGINES)/bin/python -m pip install --quiet -e ".[dask,ray,spark]"
	touch $(ENGINES)/.ready

# Written anew after a change of the dependencies; needs uv, which resolves for all Pythons at once.
lock:
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
		--no-annotate --no-header --extra all --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf $(VENV) $(TORCH) $(ENGINES) site .pytest_cache .ruff_cache
