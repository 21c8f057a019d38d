# Every target sets up what it needs in .venv; nothing but Python >= 3.11 has to be on the machine.
#
# pip reads its usual environment variables: PIP_EXTRA_INDEX_URL set to the index of CPU-only torch builds makes the
# download much smaller.

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
PACKAGING := setup.cfg pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install demo results benchmark docs test test-all soak lint typecheck clean

help:  ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(VENV)/.installed  ## Make .venv with M4SER in it; every other target uses it too

demo: $(VENV)/.installed  ## Train a small M4SER on the sample corpus, reload it and use it
	$(VENV)/bin/python examples/demo/train.py

results: $(VENV)/.installed  ## Write the report of all results: those of runs/ and those in examples/results/
	$(VENV)/bin/python examples/report.py --runs runs --output_dir examples/results

benchmark: $(VENV)/.installed  ## Measure what M4SER costs on this machine, for the page on speed
	OMP_NUM_THREADS=1 $(VENV)/bin/python examples/benchmark.py --parts step inference length loading peers --output_dir examples/results/benchmark/speed

docs: $(VENV)/.installed-docs  ## Build the documentation site into build/site
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

test: lint  ## Lint and run the tests, several at once
	$(VENV)/bin/python -m pytest

test-all: lint  ## Lint and run every test, the slow ones included
	$(VENV)/bin/python -m pytest -m "slow or not slow"

soak: $(VENV)/.installed-dev  ## Train, predict and serve for M4SER_SOAK_MINUTES (30) with kills and a full disk
	$(VENV)/bin/python tests/soak.py

lint: $(VENV)/.installed-dev  ## Check style and format with ruff
	$(VENV)/bin/python -m ruff check .
	$(VENV)/bin/python -m ruff format --check .

typecheck: $(VENV)/.installed-dev  ## Check the types of the three packages with pyright
	$(VENV)/bin/python -m pyright --pythonpath $(VENV)/bin/python

clean:  ## Remove .venv, caches and build leftovers (runs/ is kept)
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps are written last, so an interrupted set-up starts again instead of passing for a finished one.
$(VENV)/.installed: $(PACKAGING) | $(VENV)/.created
	@echo "Installing M4SER and its dependencies into $(VENV) (once; a few minutes) ..."
	@$(PIP) -e .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	@echo "Installing the development tools into $(VENV) ..."
	@$(PIP) -e ".[dev]"
	@touch $@

$(VENV)/.installed-docs: $(VENV)/.installed
	@echo "Installing what builds the documentation into $(VENV) ..."
	@$(PIP) -e ".[docs]"
	@touch $@

$(VENV)/.created:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "M4SER needs Python 3.11 or newer, and there is no '$(PYTHON)' here. Name one: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "M4SER needs Python 3.11 or newer; '$(PYTHON)' is $$($(PYTHON) --version 2>&1). Name another: make PYTHON=python3.11 ..." >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { \
	  echo "'$(PYTHON) -m venv' failed: a Python that can make virtual environments is needed (see above)." >&2; exit 1; }
	@touch $@
