# `make` lists what there is. Every target sets up what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check
PIP := $(INSTALL) --constraint constraints.txt
# What serving needs, with the hash of each file; `make lock` writes them.
LOCKS := requirements.txt requirements-docs.txt requirements-build.txt
# The interpreter for benchmarks: Debian's, which is built with profile guidance, when it can serve.
CAN_SERVE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
BENCH_PYTHON ?= $(shell /usr/bin/python3 -c '$(CAN_SERVE)' 2>/dev/null && echo /usr/bin/python3)
BENCH_VENV := $(if $(BENCH_PYTHON),build/venv$(subst /,-,$(BENCH_PYTHON)),.venv)
FASTIFY := benchmarks/peers/fastify
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-annotate \
	--no-header --upgrade --constraint constraints.txt
# One stamp for each set of packages: a target installs what it needs when it is first used.
SERVE := .venv/.serve
TEST := .venv/.test
LINT := .venv/.lint
LOAD := .venv/.load
CHAOS := .venv/.chaos
BENCH := $(BENCH_VENV)/.bench
# Without redis-server its tests are skipped, so the code for Redis is not covered.
COVERAGE := $(if $(shell command -v redis-server),,--cov-fail-under=0)

# With compiled files: else each of the processes compiles all tests anew.
SUITE = PYTHONDONTWRITEBYTECODE= $(BIN)/pytest --dist worksteal -m 'not e2e' --ignore tests/e2e

.DEFAULT_GOAL := help
.PHONY: help install run test cover e2e recipes fuzz lint types format api bench bench-host bench-request \
	bench-tokens bench-throughput bench-workers bench-start bench-door walk load soak chaos alerts rehearse lock audit \
	playground-sdk clean

help: ## list the targets
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*## /\t/' | expand -t 16

install: $(SERVE) ## install what serving needs into .venv

$(SERVE): setup.py pyproject.toml constraints.txt $(LOCKS)
	@echo "Installing what serving needs into .venv; this is done once and takes about half a minute."
	@$(PYTHON) -m venv --clear .venv || { echo "This Python has no venv module: on Debian, apt install python3-venv"; exit 1; }
	@$(INSTALL) --require-hashes $(LOCKS:%=--requirement %)
	@$(INSTALL) --no-deps --no-build-isolation --editable .
	@$(BIN)/pip uninstall --quiet --yes setuptools
	@touch $@

$(TEST) $(LINT) $(LOAD) $(CHAOS) .venv/.bench: .venv/.%: $(SERVE)
	$(PIP) --editable '.[$*]'
	@touch $@

run: $(SERVE) ## serve; without a configuration, in development mode
	@$(BIN)/python -m sandbox

test: $(TEST) ## run the whole test suite
	@echo "The suite takes about a minute and a half on two cores; tests without their program are skipped."
	$(SUITE) -n 6

cover: $(TEST) ## run the whole test suite and require every branch to be covered
	$(SUITE) -n 4 --cov --cov-report=term $(COVERAGE)

e2e: $(TEST) ## drive the playground and Vapi's own SDK in a real browser (Chromium, npm)
	$(BIN)/pytest -n 2 -m e2e tests/e2e

recipes: $(TEST) ## check the recipes of docs/clients and run them with Vapi's SDKs (Chromium, npm)
	$(BIN)/pytest -n 2 tests/recipes

fuzz: $(TEST) ## look for tokens that this service and joserfc or PyJWT disagree about
	HYPOTHESIS_PROFILE=fuzz $(BIN)/pytest --timeout=0 tests/attacks/test_fuzzing.py \
		tests/server/auth/test_tokens.py

api: $(TEST) ## check the running service against its own OpenAPI document
	$(BIN)/python -m tests.api

lint: $(LINT) ## check style, formatting and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(LINT) $(TEST) $(LOAD) ## check types
	$(BIN)/mypy

format: $(LINT) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

build/venv%/.bench: setup.py constraints.txt
	$(BENCH_PYTHON) -m venv --clear $(BENCH_VENV)
	$(BENCH_VENV)/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[bench]'
	@touch $@

$(FASTIFY)/node_modules: $(FASTIFY)/package-lock.json
	cd $(FASTIFY) && npm ci --ignore-scripts --no-audit --no-fund
	@touch $@

build/before/%/.bench:
	rm -rf $(@D) && mkdir -p $(@D) && git archive $* | tar -x -C $(@D)
	$(or $(BENCH_PYTHON),$(PYTHON)) -m venv $(@D)/.venv
	cd $(@D) && .venv/bin/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable .
	@touch $@

bench: bench-throughput bench-door bench-start bench-workers ## measure all that docs/performance.md has of the service

# BEFORE names a commit of the service that is measured in the same run.
PEERS := $(BENCH) $(FASTIFY)/node_modules $(BEFORE:%=build/before/%/.bench)
bench-throughput: $(PEERS) ## compare with aiohttp, Fastify and FastAPI (wrk, Node.js; BENCH_PYTHON, BEFORE)
	$(BEFORE:%=BEFORE=build/before/%) $(BENCH_VENV)/bin/python -m benchmarks.bench

bench-request: $(BENCH) ## measure the cost of each middleware, without a network (BENCH_PYTHON)
	$(BENCH_VENV)/bin/python -m benchmarks.request >/dev/null

bench-tokens: $(BENCH) ## measure the cost of token verification, layer by layer (BENCH_PYTHON)
	$(BENCH_VENV)/bin/python -m benchmarks.verification

walk: $(SERVE) ## print the own functions that a granted request runs, and the changes of file
	@$(BIN)/python -m benchmarks.walk

bench-door: $(BENCH) ## measure how long a new client waits beside busy, forging and idle ones (wrk; BENCH_PYTHON)
	$(BENCH_VENV)/bin/python -m benchmarks.door

bench-host: $(BENCH) ## measure the cost of mounting for the routes of a host application
	$(BENCH_VENV)/bin/python -m benchmarks.host

bench-workers: $(BENCH) ## compare two workers with one (wrk; BENCH_PYTHON, SHARE=0.3 as root)
	$(BENCH_VENV)/bin/python -m benchmarks.workers

bench-start: $(BENCH) ## measure a start, its memory, and the size of what is installed (BENCH_PYTHON)
	PYTHON=$(or $(BENCH_PYTHON),$(PYTHON)) $(BENCH_VENV)/bin/python -m benchmarks.start

load: $(LOAD) ## run a load test with locust (USERS, SECONDS, WORKERS, HOST with its JWT_SECRET)
	$(BIN)/python -m loadtests.load

soak: $(TEST) ## run a long load test and check that memory stays bounded (SECONDS)
	$(BIN)/python -m loadtests.soak

chaos: $(CHAOS) ## inject faults under load and check the bounds (SECONDS; as root; see docs/operations.md)
	$(BIN)/python -m loadtests.chaos $(if $(SECONDS),--seconds $(SECONDS))

alerts: ## check the alert rules (Debian: apt install prometheus)
	promtool check rules deploy/alerts.yaml
	promtool test rules deploy/alerts_test.yaml

rehearse: ## run the steps of the Dockerfile without an engine (PORT)
	$(PYTHON) deploy/rehearse.py

lock: $(SERVE) ## write the files of hashes anew, with the versions of constraints.txt
	$(PIP) uv
	@$(COMPILE) setup.py --output-file requirements.txt
	@$(COMPILE) --extra docs $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' requirements.txt) \
		setup.py --output-file requirements-docs.txt
	@sed -n 's/^requires = \["\(.*\)"\]/\1/p' pyproject.toml | $(COMPILE) - --output-file requirements-build.txt

audit: $(SERVE) ## look for known vulnerabilities of what serving needs
	$(PIP) pip-audit
	$(BIN)/pip-audit --disable-pip --require-hashes $(LOCKS:%=--requirement %)

playground-sdk: ## bundle Vapi's web SDK into the playground (needs Node.js)
	cd sandbox/sdk && npm ci --ignore-scripts --no-audit --no-fund && npm run build

clean: ## remove all that was made here
	rm -rf .venv build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache .schemathesis *.egg-info
	rm -rf sandbox/static/vapi-sdk.js sandbox/sdk/node_modules $(FASTIFY)/node_modules
	rm -rf tests/recipes/node_modules
