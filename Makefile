# Ratchet: `make demo` shows it, `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PYTHON ?= python3
TOOLS := .tools
BIN := .venv/bin
# uv from the PATH where there is one, else one of our own.
UV := $(or $(shell command -v uv 2>/dev/null),$(TOOLS)/uv/bin/uv)
# uv never downloads a Python of its own: what `python3` names is what is used.
export UV_PYTHON_DOWNLOADS := never
export UV_NO_PROGRESS := $(if $(CI),1,0)
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-emit-find-links --no-header

say = @printf '\033[1m▸ %s\033[0m\n' $(1)

.PHONY: help
help: ## List what there is
	@printf 'Ratchet: continuous training in which production quality turns one way.\n\n'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  \033[1mmake %-8s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@printf '\nPython: PYTHON=%s (3.11 to 3.13).  After setup: .venv/bin/ratchet --help\n' '$(PYTHON)'

.PHONY: setup
setup: $(TOOLS)/stamps/runtime $(TOOLS)/stamps/ministack ## Make the environment (.venv and .tools); quick when it is there
	@true

.PHONY: demo
demo: setup ## Start everything, land real flights, and run nights through Airflow
	@$(BIN)/ratchet demo

.PHONY: up
up: setup ## Start the services: S3, MLflow, Airflow
	@$(BIN)/ratchet up

.PHONY: down
down: ## Stop the services
	@if [ -x $(BIN)/ratchet ]; then $(BIN)/ratchet down; else echo 'nothing runs: there is no .venv'; fi

.PHONY: status
status: setup ## Show the services, their addresses and how to log in
	@$(BIN)/ratchet status

.PHONY: test
test: lint ## Run the linters and every test, on all processors; `PYTEST="-n0 tests/unit"` adds arguments
	$(call say,'tests')
	@$(BIN)/python -m pytest -n auto --dist loadfile $(PYTEST)

.PHONY: lint
lint: setup $(TOOLS)/stamps/dev ## Run the linters alone
	$(call say,'ruff: rules and format')
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	$(call say,'import-linter: layers')
	@$(BIN)/lint-imports
	$(call say,'mypy --strict')
	@$(BIN)/mypy

.PHONY: fmt
fmt: setup $(TOOLS)/stamps/dev ## Format the code and fix what can be fixed
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

.PHONY: schema
schema: setup ## Write the JSON Schema of pipeline files, for editors
	@$(BIN)/ratchet schema > include/pipelines/pipeline.schema.json && echo 'include/pipelines/pipeline.schema.json'

.PHONY: bench
bench: setup ## Measure what Ratchet costs over bare scripts
	@$(BIN)/python benchmarks/night.py $(BENCH)

.PHONY: bench-large
bench-large: setup ## Measure the memory of a night over ten million rows
	@$(BIN)/python benchmarks/large.py $(BENCH)

.PHONY: bench-training
bench-training: setup ## Measure a fit beside a bare script's, or with `BENCH="--rows 20000000 --limit-gib 2"` with matrices on disk
	@$(BIN)/python benchmarks/training.py $(BENCH)

.PHONY: bench-decisions
bench-decisions: setup ## Measure what each rule of promotion decides on a year of real nights
	@$(BIN)/python -m benchmarks.decisions --write $(BENCH)

.PHONY: lock
lock: | $(TOOLS)/stamps/python $(UV) ## Resolve the dependencies anew, within what is locked
	$(call say,'locking: runtime and development tools and S3 server')
	@$(UV) $(COMPILE) -p $(PYTHON) requirements.in -o requirements.txt
	@$(UV) $(COMPILE) -p $(PYTHON) -c requirements.txt tests/requirements.in -o tests/requirements.txt
	@$(UV) $(COMPILE) -p $(PYTHON) include/ratchet/stack/ministack.in -o include/ratchet/stack/ministack.txt

.PHONY: clean
clean: down ## Stop the services and remove the environments and caches; the state in .ratchet/ stays
	@rm -rf .venv $(TOOLS) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@echo 'removed; .ratchet/ holds the data of the services: remove it yourself if you mean it'

# Stamps: each file says that its step was done with the inputs that it depends on, so a second call costs nothing.

$(TOOLS)/stamps/python:
	@command -v $(PYTHON) >/dev/null || { echo "there is no '$(PYTHON)' here: install Python 3.11, 3.12 or 3.13, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(not (3, 11) <= v <= (3, 13) and f"Ratchet needs Python 3.11, 3.12 or 3.13; $(PYTHON) is {v[0]}.{v[1]}. Name another: make $(MAKECMDGOALS) PYTHON=python3.12")'
	@mkdir -p $(@D) && touch $@

$(TOOLS)/uv/bin/uv: | $(TOOLS)/stamps/python
	$(call say,'installing uv into $(TOOLS)/uv')
	@$(PYTHON) -m venv $(TOOLS)/uv || { echo 'python3 -m venv failed: on Debian, apt-get install python3-venv'; exit 1; }
	@$(TOOLS)/uv/bin/python -m pip install --quiet --disable-pip-version-check 'uv>=0.9,<1'

$(TOOLS)/stamps/runtime: requirements.txt pyproject.toml | $(TOOLS)/stamps/python $(UV)
	$(call say,'installing what Ratchet runs on into .venv (about 210 packages; a minute or two the first time)')
	@[ -x $(BIN)/python ] || $(UV) venv --quiet -p $(PYTHON) .venv
	@$(UV) pip install -p $(BIN)/python --require-hashes -r requirements.txt 2>&1 | sed '/^ [-+~] /d'
	@$(UV) pip install --quiet -p $(BIN)/python --no-deps -e .
	@mkdir -p $(@D) && touch $@

$(TOOLS)/stamps/ministack: include/ratchet/stack/ministack.txt | $(TOOLS)/stamps/python $(UV)
	$(call say,'installing the S3 server into $(TOOLS)/ministack')
	@[ -x $(TOOLS)/ministack/bin/python ] || $(UV) venv --quiet -p $(PYTHON) $(TOOLS)/ministack
	@$(UV) pip install --quiet -p $(TOOLS)/ministack/bin/python --require-hashes -r $<
	@mkdir -p $(@D) && touch $@

$(TOOLS)/stamps/dev: tests/requirements.txt $(TOOLS)/stamps/runtime
	$(call say,'installing the development tools into .venv')
	@$(UV) pip install --quiet -p $(BIN)/python --require-hashes -r $<
	@mkdir -p $(@D) && touch $@
