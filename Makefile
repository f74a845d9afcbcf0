# Everything a checkout needs: `make help`. Needs Python 3.11 to 3.13 and make; installs the rest into .venv.

PYTHON ?= $(shell for v in python3.13 python3.12 python3.11 python3; do \
	command -v $$v >/dev/null 2>&1 && $$v -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null && echo $$v && break; done)
VENV := .venv
BIN := $(VENV)/bin
MAAS_DATA_DIR ?= var
PORT ?= 8080
WORKERS ?= 1
# For two cores: what computes gets a worker a core; what waits a quarter of the time, for children and databases, one more.
UNIT_WORKERS ?= 2
TEST_WORKERS ?= 3
# One worker runs a file, so that what its tests share is made once; long files come first.
BY_FILE := --dist loadfile --no-loadscope-reorder
# `make check test` runs every test once: what check has run, test leaves out.
AFTER_CHECK := $(if $(filter check unit,$(MAKECMDGOALS)),--after-check)

GRPC := src/maas_gateway/protocols/open_inference/grpc
QUIETLY := --quiet --disable-pip-version-check
# On every core, where pip would use one. Confined children cannot write what they compile, so all is compiled here;
# but for templates that some packages bring, which cannot be.
COMPILE := { $(BIN)/python -m compileall -qq -j 0 $(VENV)/lib src migrations || true; }

.DEFAULT_GOAL := help
.PHONY: help serve check format lint types contracts unit test test-slow exploits bench protos lock clean

help: ## Show this.
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

serve: $(VENV)/.runtime ## Try it: train, seal and serve a model on this machine (MAAS_DATA_DIR=var PORT=8080 WORKERS=1).
	@$(BIN)/maas-gateway demo --data-dir $(MAAS_DATA_DIR) --port $(PORT) --workers $(WORKERS)

check: lint types contracts unit ## Format, lint, types, import contracts, unit tests: under 90 s.

format: $(VENV)/.development ## Put the code into its form.
	@$(BIN)/ruff format src tests migrations benchmarks
	@$(BIN)/ruff check --fix-only --quiet src tests migrations benchmarks

lint: $(VENV)/.development
	@$(BIN)/ruff format --check src tests migrations benchmarks
	@$(BIN)/ruff check src tests migrations benchmarks

types: $(VENV)/.development
	@$(BIN)/mypy

contracts: $(VENV)/.development
	@$(BIN)/lint-imports --no-cache > $(VENV)/contracts.txt || { cat $(VENV)/contracts.txt; exit 1; }
	@tail -n 2 $(VENV)/contracts.txt

unit: $(VENV)/.development # on SQLite, the quick ones; `make test` runs all, on PostgreSQL and with other services too
	@$(BIN)/python -m pytest tests/unit tests/structure -q -n $(UNIT_WORKERS) $(BY_FILE) -m "not slow and not browser and not postgres and not services and not thorough"

test: $(VENV)/.development ## The whole suite: under 15 minutes. Installs Chromium where it may.
	@sh tests/install_chromium.sh
	@sh tests/install_softhsm.sh
	@sh tests/install_oidc_provider.sh
	@sh tests/install_clients.sh
	@$(BIN)/python -m pytest -q -n $(TEST_WORKERS) $(BY_FILE) -m "not slow" $(AFTER_CHECK)

test-slow: $(VENV)/.development ## What takes longer.
	@sh tests/install_clients.sh all
	@$(BIN)/python -m pytest -q -m slow

exploits: $(VENV)/.development ## Which hostile files are live in old releases of Keras, and who notices them: about 20 minutes.
	@$(BIN)/python tests/exploits/run.py

bench: $(VENV)/.development ## Speed, as ratios of one run.
	@$(BIN)/python benchmarks/run.py

protos: $(VENV)/.development ## Describe the messages of the gRPC door anew, from their .proto files.
	@$(BIN)/python -m grpc_tools.protoc --proto_path=$(GRPC)/proto --descriptor_set_out=$(GRPC)/descriptors.binpb inference.proto health.proto reflection.proto

lock: $(VENV)/.development ## Resolve the dependencies anew.
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra build --upgrade -o requirements.lock
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header pyproject.toml --extra build --extra kms --extra openvino --extra pkcs11 --extra redis --extra dev -c requirements.lock --upgrade -o requirements-dev.lock

clean: ## Remove what make made; var, where a gateway keeps its state, stays.
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .bench dist build

$(VENV)/.python:
	@test -n "$(PYTHON)" || { echo "make: Python 3.11, 3.12 or 3.13 is needed; none was found"; exit 1; }
	@echo "Making an environment of $$($(PYTHON) --version) in $(VENV)"
	@$(PYTHON) -m venv $(VENV) && touch $@

$(VENV)/.runtime: requirements.lock pyproject.toml $(VENV)/.python
	@test -e $(VENV)/.development -a $(VENV)/.development -nt requirements.lock || { \
		echo "Installing what the gateway needs (TensorFlow is large: about 3 GB)"; \
		$(BIN)/python -m pip install $(QUIETLY) --no-compile --require-hashes -r requirements.lock && $(COMPILE); }
	@$(BIN)/python -m pip install $(QUIETLY) --no-deps --no-build-isolation -e .
	@touch $@

$(VENV)/.development: requirements-dev.lock pyproject.toml $(VENV)/.python
	@echo "Installing what the gateway and its tests need (TensorFlow is large: about 3 GB)"
	@$(BIN)/python -m pip install $(QUIETLY) --no-compile --require-hashes -r requirements-dev.lock && $(COMPILE)
	@$(BIN)/python -m pip install $(QUIETLY) --no-deps --no-build-isolation -e .
	@touch $@
