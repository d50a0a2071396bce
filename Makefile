# `make` lists what there is. Every target sets up what it needs in .venv.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.DEFAULT_GOAL := help
.PHONY: help install run test lint types format clean

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

lint: $(INSTALLED) ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED) ## check types
	$(BIN)/mypy

format: $(INSTALLED) ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove all that was made here
	rm -rf .venv build .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache *.egg-info
