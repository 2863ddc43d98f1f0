# `make smoke` and `make test` set up everything; the other targets use the same environment.
PYTHON ?= python3
PROFILE ?= paper
OPTIONS ?=
VENV := .venv
PEERS := .venv-peers
RC := $(VENV)/bin/rc
export OMP_WAIT_POLICY ?= PASSIVE
# What Python compiles is kept, whatever the shell says: once is enough.
export PYTHONDONTWRITEBYTECODE :=

TABLES := $(filter-out labels claims papers %.figure,$(basename $(notdir $(wildcard tables/*.toml))))
.PHONY: install smoke test test-all test-report check lint $(TABLES) campaign results report bench bench-runs bench-peers clean

install: $(VENV)/installed

$(VENV)/installed: pyproject.toml
	test -x $(VENV)/bin/python || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --editable '.[browser,cluster,dev,figures,report]'
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

# In a real browser where there is one (apt-get install chromium).
test-report: install
	$(VENV)/bin/python -m pytest -n 0 -m browser -rs tests/report

lint: install
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

check: lint test

$(TABLES): install
	$(RC) table $@ --profile $(PROFILE) --compare $(OPTIONS)

# The tables at full size in this order, a seed of all before the next. Stopped, it resumes: what is done is only read.
CAMPAIGN = $(foreach m,k-means AE+k-means VAE+k-means DEC VaDE LPVDN,'lpvdn1 --only method=$m') lpvdn3 \
  $(foreach d,MNIST Fashion-MNIST,'adec2 --only data=$d' $(foreach m,IDEC DEC,'adec1 --only data=$d --only method=$m')) \
  'dcan2 --only data=MNIST' dcan_oracle table1 table2 table3 gamma \
  ardmvc1 ardmvc1_code ardmvc_eps ardmvc_pgd ardmvc_terms ardmvc_grid robust_linf robust_l2 certified
campaign: install
	for seed in 0 1 2; do for cells in $(CAMPAIGN); do nice -n 19 $(RC) table $$cells --seed $$seed --profile paper \
	  --threads 1 --save-records tables/results --quiet $(OPTIONS) > /dev/null || failed=1; done; done; exit $${failed:-0}

results: install
	$(VENV)/bin/python -m tests.report.test_results

report: install
	$(RC) report --from tables/results --output report.html $(OPTIONS)

bench: install
	$(VENV)/bin/python -m tests.bench

bench-runs: install
	$(VENV)/bin/python -m tests.bench_runs

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
