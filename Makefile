PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv
UV_VERSION := 0.13.8
export ENTREPOT_HOME ?= $(CURDIR)/.entrepot

.PHONY: setup up test lint format bench soak lock docs wheel docker-steps clean

setup: $(VENV)/.installed ## Install everything into .venv

$(VENV)/.installed: requirements/dev.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "Entrepot needs Python 3.11 to 3.13; run: make PYTHON=/path/to/python3.12 setup")'
	@echo "Creating $(VENV) and installing the locked packages (about a minute the first time)"
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(UV) || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --compile-bytecode --require-hashes -r requirements/dev.lock
	@VIRTUAL_ENV=$(CURDIR)/$(VENV) $(UV) pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

up: setup ## Start the hub with everything, show one real pass, stay up
	@$(BIN)/entrepot up --first-light

test: setup ## Run the whole test suite; ARGS go to pytest
	@.ci/test $(ARGS)

lint: setup ## Format, types and import contracts
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/pyright

format: setup
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Measure the hub beside a direct call and nginx; ARGS choose rows (--list shows them)
	@$(BIN)/python -m benchmarks $(ARGS)

soak: setup ## Run what takes minutes: leaks, kill storms, fuzzing; ARGS name scenarios and --minutes
	@$(BIN)/python -m benchmarks.soak $(ARGS)

COMPILE = $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header

lock: ## Renew the lock files
	@$(COMPILE) requirements/build.in -o requirements/build.lock
	@$(COMPILE) pyproject.toml -o requirements/runtime.lock
	@$(COMPILE) --extra local pyproject.toml -o requirements/local.lock
	@$(COMPILE) --all-extras --group dev pyproject.toml requirements/build.in -o requirements/dev.lock

docs: setup ## Write the reference pages anew from the program
	@$(BIN)/python docs/reference/generate.py
	@$(BIN)/python docs/reference/tables.py
	@$(BIN)/python -m tests.eras.page

wheel: setup
	@$(BIN)/python -m build --wheel --no-isolation

docker-steps: setup ## Do what the Dockerfile does, in folders instead of an image
	@UV=$(CURDIR)/$(UV) deploy/docker-steps.sh

clean: ## Remove what was installed and built, and the hub's state in this clone
	rm -rf $(VENV) build dist tests/.node *.egg-info .entrepot
