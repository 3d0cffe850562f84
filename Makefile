# SPDX-License-Identifier: BSD-2-Clause
# Every target first installs what it needs in build/, if it is not installed yet.
# Variables: PYTHON=/path/to/python3 (>= 3.11), HVKIT_QEMU=/path/to/qemu-system-x86_64 (for demo, tests and bench),
# ARGS="additional arguments for pytest or the benchmark".

SHELL := /bin/sh
BIN := build/venv/bin
ARGS ?=
# Two workers with one file each at a time, so that fixtures shared within a file (a running guest) are set up once.
WORKERS ?= 2
PYTEST_OPTIONS := -q -n $(WORKERS) --dist loadfile -o cache_dir=build/cache/pytest
SECTION = @printf '\n== %s ==\n'

export PYTHON
export RUFF_CACHE_DIR := build/cache/ruff

.DEFAULT_GOAL := help
.PHONY: help demo test lint types layers schema parameters schema-check unit coverage bench format clean setup-run setup-dev setup-qemu
.NOTPARALLEL:

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' Makefile

demo: setup-run setup-qemu ## run the demo: start, query, change and stop an instance
	@$(BIN)/hvkit demo

test: lint types layers schema-check unit ## run all checks and tests, as CI does

lint: setup-dev ## check rules and format with ruff
	$(SECTION) lint
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

types: setup-dev ## check types with mypy in strict mode
	$(SECTION) types
	@$(BIN)/mypy

layers: setup-dev ## check the import contracts with import-linter
	$(SECTION) layers
	@$(BIN)/lint-imports --no-logo --config setup.cfg --cache-dir build/cache/import-linter

schema: setup-dev ## generate lib/qmp/schema from tools/qapi/qapi-facts.json
	@$(BIN)/python -m tools.qapi

parameters: setup-dev ## generate docs/parameters.md from the parameter table
	@PYTHONPATH=build/link $(BIN)/python -m tools.docs.parameters

schema-check: setup-dev ## check that lib/qmp/schema is up to date with `make schema`
	$(SECTION) schema-check
	@$(BIN)/python -m tools.qapi --check

unit: setup-dev setup-qemu ## run pytest, including tests on QEMU; ARGS="-k hotplug -x" selects tests
	$(SECTION) tests
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS) $(ARGS)

coverage: setup-dev setup-qemu ## run pytest and report the test coverage (build/coverage/html)
	$(SECTION) coverage
	@$(BIN)/python -m pytest $(PYTEST_OPTIONS) --cov --cov-report=html --cov-report=term $(ARGS)

bench: setup-dev setup-qemu ## run the benchmarks; ARGS="--quick" is faster, ARGS="--write" updates docs/figures.md
	$(SECTION) bench
	@python=build/venv-bench/bin/python; sh tools/setup/environment.sh bench || python=$(BIN)/python; \
		sh tools/setup/ganeti.sh $$python; sh tools/setup/libvirt.sh; $$python -m benchmark $(ARGS)

format: setup-dev ## format the sources with ruff
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

clean: ## remove all generated files
	rm -rf build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	rm -rf *.egg-info .hypothesis .pytest_cache .mypy_cache .ruff_cache

setup-run:
	@sh tools/setup/environment.sh run

setup-dev:
	@sh tools/setup/environment.sh dev

setup-qemu:
	@sh tools/setup/qemu.sh
