# The Airflow to work with: 3.3 or 2.11, pinned in constraints/.
AIRFLOW ?= 3.3
PYTHON ?= python3

VENV := .venv-$(AIRFLOW)
READY := $(VENV)/ready
CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt

.DEFAULT_GOAL := help
.PHONY: help test lint pytest system demo ui emulator clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 16

$(READY): pyproject.toml $(CONSTRAINTS)
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: make PYTHON=python3.11 ..." if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv --clear $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint $(CONSTRAINTS) --editable '.[test]'
	@touch $@

test: lint pytest ## Check the code and run the tests; AIRFLOW=2.11 for the oldest supported Airflow

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

pytest: $(READY)
	$(VENV)/bin/python -m pytest

system: $(READY) ## Run the tests on real Airflow components, some of which are killed
	$(VENV)/bin/python -m pytest -m system tests/system

demo: $(READY) ## Run the nightly eval end to end against the emulator
	@$(VENV)/bin/python scripts/demo.py

ui: $(READY) ## Open Airflow's UI with the examples and the emulator; Ctrl-C stops it
	@$(VENV)/bin/python scripts/ui.py

emulator: $(READY) ## Start the emulator on port 8900, to develop DAGs against
	$(VENV)/bin/python -m siliconflow_provider.emulator --port 8900

clean: ## Remove environments and what the demo left
	rm -rf .venv-* .demo siliconflow-emulator .pytest_cache .mypy_cache .ruff_cache
