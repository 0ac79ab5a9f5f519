# `make demo` and `make test` are all a newcomer needs; both set up .venv first.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
# State of the demo; another folder: make demo CUSTOMER_ANALYTICS_HOME=/some/folder
export CUSTOMER_ANALYTICS_HOME ?= $(CURDIR)/.local
ENGINE ?= inline
# Two workers, a file each at a time: fixtures that start services are started once. Files in tests/conftest.py's order.
PYTEST_OPTIONS ?= -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: help
help: ## Show what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(READY) ## Create .venv with the locked requirements

$(READY): requirements/dev.txt requirements/bootstrap.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@# uv is quick; where it can't reach the packages, pip does the same from the same lock.
	@# Bytecode is compiled once, here: where Python may not write it later, each command would spend seconds on it.
	$(BIN)/uv pip install --quiet --compile-bytecode --python $(BIN)/python --require-hashes -r requirements/dev.txt \
	  || $(BIN)/python -m pip install --quiet --no-deps --require-hashes -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.PHONY: demo
demo: $(READY) ## Sample shop: files and clicks to star schema, checks and report
	@if [ ! -d "$$CUSTOMER_ANALYTICS_HOME/landing/shop" ]; then $(BIN)/customer-analytics generate; fi
	@echo "== Clicks of the shop's last days, some of them unusable on purpose"
	$(BIN)/customer-analytics generate --clicks
	@# Status 3: dead letters were found.
	$(BIN)/customer-analytics stream --once || [ $$? -eq 3 ]
	@echo "== Visitors of now, read as they come"
	@$(CLICKS_OF_NOW)
	@echo "== Files, star schema, checks, report"
	$(BIN)/customer-analytics run --source shop --engine $(ENGINE)
	@echo
	@echo "The report: $$($(BIN)/customer-analytics report)"
	@echo "Ask the warehouse: $(BIN)/customer-analytics query \"select * from analytics.marts.fact_orders limit 5\""
	@echo "What was refused: $(BIN)/customer-analytics quarantine list"
	@echo "Stop the local services: $(BIN)/customer-analytics down"

# A consumer beside the player: it gets 30 seconds to join, and after the last click 4 to load it; a minute at most.
define CLICKS_OF_NOW
log="$$CUSTOMER_ANALYTICS_HOME/logs/demo-stream.log"; : > "$$log"; \
$(BIN)/customer-analytics stream --seconds 60 --verbose > "$$log" 2>&1 & consumer=$$!; \
for _ in $$(seq 60); do grep -q 'reading [0-9]* partitions' "$$log" && break; sleep 0.5; done; \
$(BIN)/customer-analytics generate --clicks --live --rate 200 --seconds 12; \
sleep 4; kill -TERM $$consumer 2> /dev/null || true; \
status=0; wait $$consumer || status=$$?; \
grep 'records of' "$$log" | tail -1; \
if [ $$status -ne 0 ] && [ $$status -ne 3 ]; then cat "$$log"; exit $$status; fi
endef

.PHONY: test
test: lint ## All checks and tests
	$(BIN)/python -m pytest $(PYTEST_OPTIONS)

.PHONY: lint
lint: $(READY) ## Style, types, SQL
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/sqlfluff lint --processes 2 --disable-progress-bar dbt/models dbt/tests warehouse/ddl
	$(BIN)/sqlfluff lint --disable-progress-bar --templater placeholder warehouse/sql

.PHONY: format
format: $(READY) ## Put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: lock
lock: $(READY) ## Make requirements/*.txt anew from requirements/*.in (versions already locked are kept)
	for name in bootstrap requirements dev; do \
	  (cd requirements && ../$(BIN)/uv pip compile --quiet --python-version 3.11 --generate-hashes --no-emit-index-url \
	    --no-emit-find-links --no-header --no-annotate $$name.in --output-file $$name.txt); \
	done

.PHONY: bench
bench: $(READY) ## Timings and scorecards (minutes; never part of test)
	for script in tests/benchmarks/bench_*.py; do echo "== $$script"; $(BIN)/python $$script; done

.PHONY: clean
clean: ## Stop the demo's services, remove .venv and the demo's state
	if [ -x $(BIN)/customer-analytics ]; then $(BIN)/customer-analytics down || true; fi
	rm -rf $(VENV) .local build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
