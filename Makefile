# `make` lists what there is. Every target sets up what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test e2e fuzz lint types format api bench bench-host load soak \
	playground-sdk clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16

install: $(INSTALLED) ## put everything into .venv

$(INSTALLED): setup.py constraints.txt
	$(PYTHON) -m venv --clear .venv || { echo "This Python has no venv module: on Debian, apt install python3-venv"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[docs,fleet,develop]'
	@touch $@

run: $(INSTALLED) ## serve; without a configuration, in development mode
	@$(BIN)/python -m sandbox

test: $(INSTALLED) ## run the whole test suite, with coverage
	$(BIN)/pytest -n auto -m 'not e2e' --cov --cov-report=term

e2e: $(INSTALLED) ## drive the playground and Vapi's own SDK in a real browser (Chromium, npm)
	$(BIN)/pytest -m e2e tests/e2e

fuzz: $(INSTALLED) ## look for tokens that this service and another library disagree about
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest tests/attacks -k fuzz --timeout=0

api: $(INSTALLED) ## hold the running service against its own OpenAPI document
	$(BIN)/python -m tests.api

lint: $(INSTALLED) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## check types
	$(BIN)/mypy

format: $(INSTALLED) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/uvicorn: $(INSTALLED)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'

bench: $(BIN)/uvicorn ## measure it against a bare handler and FastAPI (wrk, two cores)
	$(BIN)/python -m benchmarks.bench

bench-host: $(BIN)/uvicorn ## measure what mounting costs the routes of a host application
	$(BIN)/python -m benchmarks.host

playground-sdk: ## bundle Vapi's web SDK into the playground (needs Node.js)
	cd sandbox/sdk && npm ci --ignore-scripts --no-audit --no-fund && npm run build

clean: ## remove all that was made here
	rm -rf .venv build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis *.egg-info
	rm -rf sandbox/static/vapi-sdk.js sandbox/sdk/node_modules
