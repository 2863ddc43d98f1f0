# `make smoke` and `make test` set up everything; the other targets use the same environment.
PYTHON ?= python3
PROFILE ?= paper
OPTIONS ?=
VENV := .venv
PEERS := .venv-peers
RC := $(VENV)/bin/rc
export OMP_WAIT_POLICY ?= PASSIVE

TABLES := $(filter-out labels claims %.figure,$(basename $(notdir $(wildcard tables/*.toml))))
.PHONY: install smoke test test-all check lint $(TABLES) results bench bench-peers clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[dev,figures]'
	touch $@

# Table 3 needs every run of Tables 1 and 2. Its two seeds run side by side, one core each; then all are printed.
SMOKE = --profile smoke --threads 1 $(OPTIONS)
smoke: install
	$(RC) pretrain --model convae --data digits --seed 0,1 $(SMOKE)
	$(RC) table table3 --seed 1 --quiet $(SMOKE) > /dev/null & \
	$(RC) table table3 --seed 0 $(SMOKE) > /dev/null && wait $$!
	for table in table1 table2 table3; do $(RC) table $$table --compare --quiet $(SMOKE) || exit 1; done

test: install
	$(VENV)/bin/python -m pytest

test-all: install
	$(VENV)/bin/python -m pytest -m 'slow or not slow'

lint: install
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

check: lint test

$(TABLES): install
	$(RC) table $@ --profile $(PROFILE) --compare $(OPTIONS)

results: install
	$(VENV)/bin/python -m tests.report.test_results

bench: install
	$(VENV)/bin/python -m tests.bench

# ClustPy, torchattacks and foolbox are no dependency of ours: they have an environment of their own, made once.
# torchattacks pins old versions of what it does not need.
$(PEERS)/installed: pyproject.toml
	test -x $(PEERS)/bin/python || $(PYTHON) -m venv $(PEERS)
	$(PEERS)/bin/python -m pip install --quiet clustpy foolbox --editable '.[dev]'
	$(PEERS)/bin/python -m pip install --quiet --no-deps torchattacks
	touch $@

bench-peers: $(PEERS)/installed
	TQDM_DISABLE=1 $(PEERS)/bin/python -m tests.bench_peers $(OPTIONS)

clean:
	rm -rf $(VENV) $(PEERS) .mypy_cache .ruff_cache .pytest_cache
