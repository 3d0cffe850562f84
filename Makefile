# SPDX-License-Identifier: BSD-2-Clause
# Every target does the set-up it needs, in build/; a second time that costs nothing.
# Variables: PYTHON=/path/to/python3 (>= 3.11), HVKIT_QEMU=/path/to/qemu-system-x86_64 (for demo, tests and bench),
# ARGS="more arguments of pytest".

SHELL := /bin/sh
BIN := build/venv/bin
ARGS ?=
# Two workers, each with whole files: what a file shares (a running guest) is made once.
WORKERS ?= 2
PYTEST_OPTIONS := -q -n $(WORKERS) --dist loadfile -o cache_dir=build/cache/pytest
SECTION = @printf '\n== %s ==\n'

export PYTHON
export RUFF_CACHE_DIR := build/cache/ruff

.DEFAULT_GOAL := help
.PHONY: help demo test lint types layers schema parameters schema-check unit coverage bench format clean setup-run setup-dev setup-qemu
.NOTPARALLEL:

help: ## say what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: setup-run setup-qemu ## watch a machine start, answer, change and stop
	@$(BIN)/hvkit demo

test: lint types layers schema-check unit ## all of it, as CI does

lint: setup-dev ## ruff: rules and format
	$(SECTION) lint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: setup-dev ## mypy, strict
	$(SECTION) types
	@$(BIN)/mypy

layers: setup-dev ## import-linter: imports point down
	$(SECTION) layers
	@$(BIN)/lint-imports --no-logo --config setup.cfg --cache-dir build/cache/import-linter

schema: setup-dev ## write lib/qmp/schema again from tools/qapi/qapi-facts.json
	@$(BIN)/python -m tools.qapi

parameters: setup-dev ## write docs/parameters.md again from the table of parameters
	@PYTHONPATH=build/link $(BIN)/python -m tools.docs.parameters

schema-check: setup-dev ## fail where lib/qmp/schema is not what `make schema` writes
	$(SECTION) schema-check
	@$(BIN)/python -m tools.qapi --check

unit: setup-dev setup-qemu ## pytest, with real QEMU too; ARGS="-k hotplug -x" for some
	$(SECTION) tests
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS) $(ARGS)

coverage: setup-dev setup-qemu ## pytest, and which lines no test runs (build/coverage/html)
	$(SECTION) coverage
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS) --cov --cov-report=html --cov-report=term $(ARGS)

bench: setup-dev setup-qemu ## measure the figures; ARGS="--quick" for a look, ARGS="--write" for docs/figures.md
	$(SECTION) bench
	@python=build/venv-bench/bin/python; sh tools/setup/environment.sh bench || python=$(BIN)/python; \
		sh tools/setup/ganeti.sh $$python; sh tools/setup/libvirt.sh; $$python -m benchmark $(ARGS)

format: setup-dev ## let ruff put the sources in order
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean: ## remove everything that make made
	rm -rf build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache

setup-run:
	@sh tools/setup/environment.sh run

setup-dev:
	@sh tools/setup/environment.sh dev

setup-qemu:
	@sh tools/setup/qemu.sh
