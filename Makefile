# make lab     set everything up and open the course        make test    run every check
# make assets  fetch what the notebooks need                make bench   print the figures of this machine
# make notebooks [N=03_attention]    execute the notebooks and store them in canonical form
# make lint    ruff and the notebook pairs                  make clean   remove what make has made
#
# Another Python: make lab PYTHON=python3.12. No browser on this machine: make lab JUPYTER_FLAGS=--no-browser

PYTHON ?= python3
VENV ?= .venv
WORKERS ?= 2
JUPYTER_FLAGS ?=
N ?=
SEED ?= 1

ifeq ($(OS),Windows_NT)
PY := $(VENV)/Scripts/python
else
PY := $(VENV)/bin/python
endif

# Stored outputs were made in the pinned Linux environment; elsewhere the notebooks are executed but not compared.
ifeq ($(shell uname -s),Linux)
NBVAL ?= --nbval
else
NBVAL ?= --nbval-lax
endif

PIP := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One compute thread a worker, and threads that sleep while they wait: two busy workers would otherwise stop each other.
export GOMP_SPINCOUNT = 1000
PYTEST := OMP_NUM_THREADS=1 $(PY) -m pytest -n $(WORKERS)

.PHONY: lab test test-unit test-oracle test-notebooks test-disturbed test-browser assets all-assets notebooks bench lint clean
.NOTPARALLEL:
.DEFAULT_GOAL := lab

lab: assets
	$(PY) -m jupyterlab --ServerApp.root_dir=notebooks $(JUPYTER_FLAGS)

assets: $(VENV)/.lab
	$(PY) -m arlab.assets

all-assets: $(VENV)/.lab  # also what only recipes and unit tests read
	$(PY) -m arlab.assets --all

# --- the environment: a stamp file for each part, so that it is installed again only when its list changes

$(VENV)/.lab: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(None if (3, 11) <= v < (3, 14) else "arlab needs Python 3.11 to 3.13; $(PYTHON) is %d.%d. Name another: make lab PYTHON=python3.12" % v[:2])'
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	$(PY) -m ipykernel install --sys-prefix --name python3 --display-name "Python 3 (ipykernel)" --env GOMP_SPINCOUNT 1000
	touch $@

$(VENV)/.test: $(VENV)/.lab
	$(PIP) -e ".[test]"
	touch $@

# --- the checks: each stage prints its time, and its exit status counts (pytest's 5, no tests found, is a failure too)

define stage
	@echo; echo "=== $(1)"; start=$$(date +%s); status=0; $(2) || status=$$?; \
	echo "=== $(1): $$(( $$(date +%s) - start )) s, exit status $$status"; exit $$status
endef

test: test-unit test-oracle test-notebooks test-browser

test-unit: $(VENV)/.test all-assets
	$(call stage,unit,$(PYTEST) tests/unit tests/notebooks)

test-oracle: $(VENV)/.test assets
	$(call stage,oracle,$(PYTEST) --dist loadfile tests/oracle)

# A worker takes whole notebooks, as the cells of one share a kernel; on a GPU machine they are still compared on the CPU.
test-notebooks: $(VENV)/.test assets
	$(call stage,notebooks,CUDA_VISIBLE_DEVICES= $(PYTEST) --dist loadfile $(NBVAL) --nbval-sanitize-with tools/nbval_sanitize.cfg --nbval-cell-timeout 240 --durations 5 notebooks/*.ipynb)

# The same, as on another processor: trained models start with disturbed weights (tools/disturbed_start.py). Not in CI.
test-disturbed: export PYTHONSTARTUP = $(CURDIR)/tools/disturbed_start.py
test-disturbed: export ARLAB_DISTURB = $(SEED)
test-disturbed: test-notebooks

test-browser: $(VENV)/.test assets
	$(call stage,browser,$(PYTEST) --dist loadfile tests/browser)

# --- for those who change the course

notebooks: $(VENV)/.test assets
	$(PY) tools/build.py $(N)

bench: $(VENV)/.test assets
	$(PY) -m bench

lint: $(VENV)/.test
	$(PY) -m ruff check .
	$(PY) tools/build.py --check

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis
	find arlab notebooks tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
