# `make smoke` and `make test` set up everything; the other targets use the same environment.
PYTHON ?= python3
PROFILE ?= paper
OPTIONS ?=
VENV := .venv
RC := $(VENV)/bin/rc
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: install smoke test test-all check lint table1 table2 table3 gamma bench clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev,figures]'
	touch $@

# Two seeds side by side, a core each; then the tables from the finished runs.
smoke: install
	@set -e; for table in table1 table2 table3; do \
	  $(RC) table $$table --profile smoke --compare $(OPTIONS); \
	done

test: install
	$(VENV)/bin/python -m pytest

test-all: install
	$(VENV)/bin/python -m pytest -m 'slow or not slow'

lint: install
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

check: lint test

table1 table2 table3 gamma: install
	$(RC) table $@ --profile $(PROFILE) --compare $(OPTIONS)

bench: install
	$(VENV)/bin/python -m tests.bench

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache
