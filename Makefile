# The commands people use. Every one sets up what it needs; second runs start in seconds.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PY := .venv/bin/python
ONLY ?=
LAB ?=
# Of images: ARCH=arm64|amd64, OUT=directory, VERSION=, KEY= and CERT= (sign bundles), MINISIGN_KEY= and MINISIGN_PUB= (sign the checksums)
ARCH ?= arm64
OUT ?= build/image
VERSION ?=
KEY ?=
CERT ?=
MINISIGN_KEY ?=
MINISIGN_PUB ?=
SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
IMAGEKIT = $(SUDO) env PYTHONPATH=firmware-image PYTHONDONTWRITEBYTECODE=1 $(if $(SOURCE_DATE_EPOCH),SOURCE_DATE_EPOCH=$(SOURCE_DATE_EPOCH)) $(PY) -m imagekit
IMAGE_OPTIONS = --arch $(ARCH) --out $(OUT) $(if $(VERSION),--version $(VERSION)) $(if $(KEY),--key $(KEY)) $(if $(CERT),--cert $(CERT)) \
	$(if $(MINISIGN_KEY),--minisign-key $(MINISIGN_KEY)) $(if $(MINISIGN_PUB),--minisign-pub $(MINISIGN_PUB))

.PHONY: help setup run test lint bench lab image deb test-image-full

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 17

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

image:  ## Build the SD-card image, its update and the Debian package (ARCH=amd64, KEY=, CERT=, …; docs/image.md)
	@scripts/setup.sh run image
	@$(IMAGEKIT) build $(IMAGE_OPTIONS)

deb:  ## Build the Debian package for Raspberry Pi OS and Debian 13 (ARCH=amd64)
	@scripts/setup.sh run image
	@$(IMAGEKIT) deb $(IMAGE_OPTIONS)

test-image-full:  ## Test the image on emulated machines, both processors, with cuts of the power: an hour and more
	@scripts/setup.sh run test image
	@$(SUDO) env CI=$(CI) PYTHONDONTWRITEBYTECODE=1 $(PY) -m pytest -p no:cacheprovider -n 0 -m image_full -o timeout=10800 firmware-image/tests $(ONLY)

lint:  ## Check style, types and import rules
	@scripts/setup.sh run test
	@.venv/bin/ruff check appliance scripts benchmarks tests firmware-image
	@.venv/bin/ruff format --check appliance scripts benchmarks tests firmware-image
	@.venv/bin/mypy
	@.venv/bin/lint-imports --no-logo

bench:  ## Measure against the budgets (ONLY=name for one)
	@scripts/setup.sh run test
	@$(PY) -m benchmarks.run $(ONLY)
