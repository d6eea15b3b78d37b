# Bare `make` lists the targets. PYTHON is the interpreter that .venv is made with.
PYTHON ?= $(shell command -v python3 || command -v python3.11)
BIN := .venv/bin
INSTALLED := .venv/.installed
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_BUILD_CONSTRAINT := $(PIP_CONSTRAINT)
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help run test lint format demo proto figures figure load

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(INSTALLED) ## install, and start the server on embedded PostgreSQL and Valkey
	$(BIN)/samplit serve

test: $(INSTALLED) ## install, and run the tests
	$(BIN)/pytest

lint: $(INSTALLED) ## ruff, mypy, import contracts, buf lint and buf breaking
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint build/protos.binpb --config protos/buf.yaml --path samplit
	$(BIN)/buf breaking build/protos.binpb --against protos/released.binpb --config protos/buf.yaml

format: $(INSTALLED) ## format the code, and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

demo: $(INSTALLED) ## replay a small simulated population on a running server: segmented against unsegmented
	$(BIN)/samplit replay --demo

proto: $(INSTALLED) ## generate the stubs from protos/
	$(BIN)/python protos/generate.py

figures: $(INSTALLED) ## list the figures that can be regenerated
	$(BIN)/python -m tests.benchmarks

figure: $(INSTALLED) ## regenerate one: make figure NAME=replay
	$(BIN)/python -m tests.benchmarks $(NAME)

load: $(INSTALLED) ## send load to a running server: make load ARGS='--rate 500 --seconds 10'; ARGS=--help lists them
	$(BIN)/python -m tests.benchmarks.load $(ARGS)

# The stubs are built with the package, so a changed proto installs it again.
$(INSTALLED): pyproject.toml constraints.txt hatch_build.py $(shell find protos -name '*.proto' -o -name '*.py')
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Samplit needs Python 3.11 or later")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@
