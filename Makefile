# make demo    train a small GPT on Bach's chorales and let it continue one (about five minutes)
# make test    run the tests, without PyTorch
# make oracle  run the tests that compare with PyTorch as well
# make bench   measure speed against the machine's bounds
# make lint    ruff and mypy
PYTHON ?= python3
VENV ?= .venv
ORACLE_VENV ?= .venv-oracle
TORCH ?= torch==2.13.0
BIN := $(VENV)/bin

.PHONY: demo test oracle bench lint clean

demo: $(VENV)/examples.stamp
	$(BIN)/antorcha run examples/bach_gpt.py --demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest --numprocesses auto -m "not oracle"

oracle: $(ORACLE_VENV)/dev.stamp
	$(ORACLE_VENV)/bin/python -m pytest --numprocesses auto

bench: $(VENV)/dev.stamp
	$(BIN)/python -m benchmarks --write docs

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(ORACLE_VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache

$(VENV)/bin/python $(ORACLE_VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "antorcha needs Python 3.10 or newer; name one: make PYTHON=/path/to/python3.12"; exit 1; }
	$(PYTHON) -m venv $(dir $(@D)) || \
		{ rm -rf $(dir $(@D)); echo "python could not make a virtual environment (on Debian: apt install python3-venv)"; exit 1; }

$(VENV)/examples.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[examples]'
	@touch $@

$(VENV)/dev.stamp: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[examples,dev]'
	@touch $@ $(VENV)/examples.stamp

$(ORACLE_VENV)/dev.stamp: pyproject.toml | $(ORACLE_VENV)/bin/python
	$(ORACLE_VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.[examples,dev]' '$(TORCH)'
	@touch $@
