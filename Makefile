# The commands people use. Every one sets up what it needs; second runs start in seconds.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
ONLY ?=
LAB ?=

.PHONY: help setup run test lint bench lab

help:  ## List the commands
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 10

setup:  ## Set up all that running and testing need; start nothing
	@scripts/setup.sh run test

run:  ## Start the appliance with its console
	@scripts/setup.sh run
	@exec .venv/bin/prime-spark

test:  ## Run all tests
	@scripts/setup.sh run test
	@scripts/test.sh

lab:  ## Start the whole fleet on this machine, in namespaces (LAB="--full"; docs/lab.md)
	@scripts/setup.sh run test
	@scripts/lab up $(LAB)
	@echo 'Open the console of its control-pc: scripts/lab console'

lint:  ## Check style, types and import rules
	@scripts/setup.sh run test
	@.venv/bin/ruff check appliance scripts benchmarks tests
	@.venv/bin/ruff format --check appliance scripts benchmarks tests
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

bench:  ## Measure against the budgets (ONLY=name for one)
	@scripts/setup.sh run test
	@$(PY) -m benchmarks.run $(ONLY)
