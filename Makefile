# The Airflow to work with: 3.3 or 2.11, pinned in constraints/. `make test` takes both.
AIRFLOW ?= 3.3
ENDS := 3.3 2.11
# Those that `make matrix` takes, newest first.
VERSIONS ?= 3.3 3.2 3.2.0 3.1 3.0 2.11

VENV := .venv-$(AIRFLOW)
READY := $(VENV)/ready
CLEAN := $(VENV)-wheel
CONSTRAINTS := constraints/airflow-$(AIRFLOW).txt

export PYTHON
# Where `make moved-clock` puts the day, and what it runs there: DAGs, waits and the README's examples.
DAYS ?= 400
MOVED := decorators sensors triggers/test_batches.py operators/test_in_dags.py test_example_dags.py test_moved_clock.py \
	docs/test_examples.py
# Tests that know nothing of Airflow, and those of whole jobs to which its version makes no difference: `make test` runs
# each on one of the two, `make pytest` and `make lowest` all. Of MOVED, it runs those with the clock moved on 3.3, and
# those with the day's clock on 2.11. Real components are started on 3.3 only; `make system AIRFLOW=2.11` does it on the
# other.
ONLY_3.3 := inputs outputs plugins pricing system test_distributions.py test_growth.py test_jsonl.py test_layers.py test_races.py \
	test_wording.py docs/test_architecture.py docs/test_command_line.py docs/test_links.py docs/test_promises.py \
	$(addprefix cli/,test_arguments.py test_batch_documents.py test_batches.py test_estimate.py test_progress.py) \
	$(addprefix operators/,test_download_results.py test_inference_results.py test_inference_rounds.py test_output_path.py)
ONLY_2.11 := api bad_input batches emulator jobs waiting test_fault_matrix.py test_never_twice.py test_tracebacks.py \
	$(addprefix operators/,test_deploys.py test_deploys_cleared.py test_inference_resuming.py) \
	$(addprefix triggers/,test_watcher.py test_watcher_failures.py)
LEFT_OUT_3.3 = $(ONLY_2.11) $(MOVED)
LEFT_OUT_2.11 = $(ONLY_3.3)
# Output of jobs that run side by side is printed job by job, where make can do that.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.DEFAULT_GOAL := help
.PHONY: help test $(ENDS:%=environment-%) $(ENDS:%=test-%) lint pytest moved-clock build wheel system crash-matrix demo ui \
	emulator fault-matrix races matrix lowest audit docs constraints clean

help: ## Show what there is
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /make \1\t/' | expand -t 16

$(READY): pyproject.toml $(CONSTRAINTS) scripts/environment.sh
	@scripts/environment.sh $(VENV) $(AIRFLOW) --editable '.[test]'
	@touch $@

$(CLEAN)/ready: pyproject.toml $(CONSTRAINTS) scripts/environment.sh | build
	@scripts/environment.sh $(CLEAN) $(AIRFLOW) $(VENV)/dist/*.whl
	@touch $@

test: ## Check the code, run the tests and try the wheel, with Airflow 3.3 and 2.11
	@$(MAKE) --no-print-directory --jobs=2 $(SYNC) $(ENDS:%=environment-%)
	@$(MAKE) --no-print-directory --keep-going --jobs=2 $(SYNC) $(ENDS:%=test-%) moved-clock

$(ENDS:%=environment-%): environment-%:
	@$(MAKE) --no-print-directory AIRFLOW=$* .venv-$*/ready

$(ENDS:%=test-%): test-%:
	@$(MAKE) --no-print-directory AIRFLOW=$* LEFT_OUT="$(LEFT_OUT_$*)" \
		$(if $(filter 3.3,$*),lint) pytest wheel

lint: $(READY)
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

pytest: $(READY) ## Run the tests alone; AIRFLOW=2.11 for the oldest supported Airflow
	scripts/in_memory.sh $(VENV)/bin/python -m pytest $(LEFT_OUT:%=--ignore=tests/%)

moved-clock: $(READY) ## Run the quick tests 400 days from now, or as many as DAYS says
	PYTHONPATH=$(CURDIR)/tests/moved_clock MOVED_CLOCK_DAYS=$(DAYS) \
		scripts/in_memory.sh $(VENV)/bin/python -m pytest $(MOVED:%=tests/%)

build: $(READY)
	@rm -rf $(VENV)/dist
	$(VENV)/bin/python -m build --no-isolation --outdir $(VENV)/dist .

wheel: $(CLEAN)/ready build ## Build the wheel and try it alone in a clean Airflow
	@$(CLEAN)/bin/python -m pip install --quiet --no-index --no-deps --force-reinstall $(VENV)/dist/*.whl
	$(CLEAN)/bin/python scripts/check_wheel.py $(VENV)/bin/mypy

system: $(READY) ## Run the tests on real Airflow components, some of which are killed
	scripts/in_memory.sh $(VENV)/bin/python -m pytest -m system tests/system

crash-matrix: $(READY) ## Kill a task or a component at each step, and write docs/crash-matrix.md; takes six minutes
# SQLite is too slow for it on Airflow 2: there it takes the PostgreSQL that Debian's package installs.
ifneq ($(filter 2.%,$(AIRFLOW)),)
	@$(VENV)/bin/python -m pip install --quiet --constraint $(CONSTRAINTS) psycopg2-binary
endif
	$(VENV)/bin/python -m tests.system.crash_matrix docs/crash-matrix.md

demo: $(READY) ## Run the nightly eval end to end against the emulator
	@$(VENV)/bin/python scripts/demo.py

ui: $(READY) ## Open Airflow's UI with the examples and the emulator; Ctrl-C stops it
	@$(VENV)/bin/python scripts/ui.py

emulator: $(READY) ## Start the emulator on port 8900, to develop DAGs against
	$(VENV)/bin/python -m siliconflow_provider.emulator --port 8900

fault-matrix: $(READY) ## Break each call in every way, and write docs/fault-matrix.md; takes five minutes
	FAULT_MATRIX=docs/fault-matrix.md $(VENV)/bin/python -m pytest --tb=line --show-capture=no tests/test_fault_matrix.py
	@cat docs/fault-matrix.md

races: $(READY) ## Run one task instance in ten processes at once, and write docs/races.md; takes three minutes
	$(VENV)/bin/python -m scripts.races docs/races.md

matrix: build ## Try the wheel on every Airflow, in environments of their own, and write docs/matrix.md; takes half an hour
	$(VENV)/bin/python -m tests.system.matrix docs/matrix.md $(VENV)/dist/*.whl $(VERSIONS)

lowest: ## Run the tests with Airflow 2.11.0 and the lowest version of everything else that is required
	@$(MAKE) --no-print-directory AIRFLOW=lowest .venv-lowest/ready
	scripts/in_memory.sh .venv-lowest/bin/python -m pytest --ignore=tests/system

audit: $(READY) .venv-audit/ready ## Search the code, and what it requires at its lowest and newest, for known weaknesses
	$(VENV)/bin/ruff check --select S airflow_provider_siliconflow example_dags siliconflow_provider
	@$(MAKE) --no-print-directory AIRFLOW=lowest .venv-lowest-wheel/ready
	@$(MAKE) --no-print-directory AIRFLOW=3.3 .venv-3.3-wheel/ready
	$(VENV)/bin/python scripts/audit.py .venv-audit/bin/pip-audit \
		$(foreach each,lowest 3.3,$(each)=$$(echo .venv-$(each)-wheel/lib/python3*/site-packages))

.venv-audit/ready: | $(READY)
	$(VENV)/bin/python -m venv --clear .venv-audit
	.venv-audit/bin/python -m pip install --quiet pip-audit==2.10.1
	@touch $@

docs: .venv-docs/ready ## Build the documentation into site/; a warning is an error
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict --quiet
	@! grep -rEno '<(script|link|img|iframe)[^>]* (src|href)="?(https?:)?//[^">]*' --include=*.html site
	@echo "site/index.html"

.venv-docs/ready: pyproject.toml constraints/airflow-3.3.txt scripts/environment.sh
	@scripts/environment.sh .venv-docs 3.3 --editable '.[docs]'
	@touch $@

constraints: ## Make the pins of the versions between the ends, and those of the lowest, anew; needs uv
	scripts/constraints.sh

clean: ## Remove environments and what the demo left
	rm -rf .venv-* .demo site siliconflow-emulator .pytest_cache .mypy_cache .ruff_cache
