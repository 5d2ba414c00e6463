# People and CI run the same targets. Each one installs what it needs into .venv, from lock files
# with hashes, and only when a lock or setup.cfg changed: nothing else reaches for the network.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The Python that .venv is made with, 3.11 to 3.13; looked for when it is not given.
ifeq ($(origin PYTHON),undefined)
PYTHON := python3
PYTHONS := python3 python3.13 python3.12 python3.11
else
PYTHONS := "$(PYTHON)"
endif
# More words for mlops-pipeline or pytest: make up ARGS=iris, make test-fast ARGS="-k gateway".
ARGS ?=

IN_RANGE := import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))
BIN := .venv/bin
UV := $(BIN)/uv --quiet --no-progress
INSTALL := $(UV) pip install --python $(BIN)/python
PYTEST := $(BIN)/python -m pytest
LOCK := $(UV) pip compile --python $(BIN)/python --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock" setup.cfg

# What tests and benchmarks compare with: each in an environment of its own, with its own versions.
OTHERS := seldon-client model-signing tensorflow-serving peers bentoml
OTHER_LOCK = $(UV) pip compile --no-config $(OPTIONS_$(1)) --python $(BIN)/python --universal \
	--python-version 3.11 --generate-hashes --no-annotate --custom-compile-command "make lock" \
	requirements/$(1).in
# TF Serving's messages need nothing that they ask for.
OPTIONS_tensorflow-serving := --no-deps

# The locks of the serving images are data of the package: whoever installed it builds them.
SERVING_LOCK := $(UV) pip compile --project requirements/serving --python $(BIN)/python \
	--universal --python-version 3.11 --generate-hashes --no-annotate \
	--custom-compile-command "make lock" requirements/serving/pyproject.toml
DEPLOY := mlops_pipeline/deploy

# The scripts in .venv hold its path, so a project folder that was moved gets a new one.
PLACE := $(shell cat .venv/.place 2>/dev/null)
ifneq ($(PLACE),)
ifneq ($(PLACE),$(CURDIR))
.venv/.uv-stamp: moved
endif
endif

##@ Use it

.PHONY: up
up: .venv/.runtime-stamp ## Start everything: platform, models, deployments, verification
	@$(BIN)/mlops-pipeline up $(ARGS)

.PHONY: ui
ui: .venv/.runtime-stamp ## Open the Dagster UI, with the runs that `make up` made
	@$(BIN)/mlops-pipeline ui $(ARGS)

.PHONY: status
status: .venv/.runtime-stamp ## Show the actual state
	@$(BIN)/mlops-pipeline status $(ARGS)

.PHONY: doctor
doctor: .venv/.runtime-stamp ## Check this machine (ARGS="--platform kind": for Kubernetes)
	@$(BIN)/mlops-pipeline doctor $(ARGS)

.PHONY: down
down: .venv/.runtime-stamp ## Stop everything; keep the data (ARGS=--purge deletes it)
	@$(BIN)/mlops-pipeline down $(ARGS)

##@ Change it

.PHONY: test
test: check .venv/seldon-client/.stamp .venv/tensorflow-serving/.stamp .venv/model-signing/.stamp ## check, then every test that needs no Docker, real processes included
	@$(PYTEST) -m "not kind and not long" $(ARGS)

.PHONY: test-fast
test-fast: .venv/.dev-stamp ## The tests that start no process: seconds
	@$(PYTEST) -m "not embedded and not kind and not long" $(ARGS)

.PHONY: test-kind
test-kind: .venv/.dev-stamp ## The tests on a separate kind cluster: needs Docker (MLOPS_BUNDLE=DIR: no network)
	@$(PYTEST) mlops_pipeline_tests/kind --with-kind -m "kind and not long" $(ARGS)

.PHONY: test-long
test-long: .venv/.dev-stamp ## Soak tests and complete matrices of faults (ARGS="--with-kind": also on kind)
	@$(PYTEST) --with-long -m long $(ARGS)

.PHONY: bench
bench: .venv/.dev-stamp .venv/peers/.stamp .venv/bentoml/.stamp ## Run the benchmarks and write docs/benchmarks.md (12 minutes; ARGS=--quick: 4)
	@$(BIN)/python -m benchmarks $(ARGS)

.PHONY: fuzz
fuzz: .venv/.dev-stamp ## Send 10,000 invalid or unusual requests (FUZZ_REQUESTS=…: another number)
	@FUZZ_REQUESTS=$${FUZZ_REQUESTS:-10000} $(PYTEST) mlops_pipeline_tests/embedded/test_fuzzing.py \
		$(ARGS)

.PHONY: coverage
coverage: .venv/.dev-stamp ## Show the lines that the fast tests do not cover
	@$(BIN)/python -m coverage run -m pytest -q -m "not embedded and not kind and not long" $(ARGS)
	@$(BIN)/python -m coverage combine -q
	@$(BIN)/python -m coverage report

.PHONY: check
check: .venv/.dev-stamp ## Formatting, lint, wording, types, import contracts; runs no test
	@echo "check: formatting (fix with make format)" && $(BIN)/ruff format --quiet --diff .
	@echo "check: lint" && $(BIN)/ruff check --quiet .
	@echo "check: wording" && $(BIN)/python -m mlops_pipeline_tests.wording
	@echo "check: types" && $(BIN)/python -m mypy --no-error-summary
	@echo "check: import contracts" && \
		{ report=$$($(BIN)/lint-imports --no-logo 2>&1) || { echo "$$report"; exit 1; }; }

.PHONY: format
format: .venv/.dev-stamp ## Format the code and apply the linter's fixes
	@$(BIN)/ruff check --quiet --fix-only .
	@$(BIN)/ruff format --quiet .

.PHONY: lock
lock: .venv/.uv-stamp ## Write all locks from setup.cfg (ARGS=--upgrade: newest versions)
	@$(LOCK) $(ARGS) --all-extras -o requirements/dev.lock
	@$(LOCK) -c requirements/dev.lock $(ARGS) -o requirements/runtime.lock
	@$(foreach other,$(OTHERS),$(call OTHER_LOCK,$(other)) $(ARGS) -o requirements/$(other).lock &&) :
	@$(SERVING_LOCK) -c requirements/dev.lock -o $(DEPLOY)/serving.lock
	@$(SERVING_LOCK) -c requirements/dev.lock --extra tensorflow \
		-o $(DEPLOY)/serving-tensorflow.lock
	@cp requirements/uv.lock $(DEPLOY)/uv.lock
	@echo "lock: the locks in requirements/ and $(DEPLOY)/ are written"

.PHONY: check-lock
check-lock: .venv/.uv-stamp ## Fail if a lock differs from what `make lock` would write
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && \
	cp requirements/*.lock $(DEPLOY)/serving*.lock "$$folder" && \
	$(LOCK) --all-extras -o "$$folder/dev.lock" && \
	$(LOCK) -c "$$folder/dev.lock" -o "$$folder/runtime.lock" && \
	$(foreach other,$(OTHERS),$(call OTHER_LOCK,$(other)) -o "$$folder/$(other).lock" &&) \
	$(SERVING_LOCK) -c "$$folder/dev.lock" -o "$$folder/serving.lock" && \
	$(SERVING_LOCK) -c "$$folder/dev.lock" --extra tensorflow \
		-o "$$folder/serving-tensorflow.lock" && \
	for lock in requirements/dev.lock requirements/runtime.lock $(OTHERS:%=requirements/%.lock) \
		$(DEPLOY)/serving.lock $(DEPLOY)/serving-tensorflow.lock \
		$(DEPLOY)/uv.lock; do \
		new="$$folder/$${lock##*/}" && cmp -s $$lock "$$new" || { \
			diff -u $$lock "$$new" | grep '^[-+][^ ]' | head -20; \
			echo "check-lock: $$lock is stale; run \`make lock\` and commit it" >&2; \
			exit 1; }; \
	done && echo "check-lock: the locks match setup.cfg and pyproject.toml"

.PHONY: proto
proto: .venv/.dev-stamp ## Write *_pb2.py and .pyi in mlops_pipeline/serving from the .proto files there
	@$(BIN)/python -m grpc_tools.protoc -I . --python_out=. --pyi_out=. \
		mlops_pipeline/serving/*.proto
	@echo "proto: *_pb2.py and .pyi in mlops_pipeline/serving are written"

.PHONY: wheel
wheel: .venv/.dev-stamp ## Build dist/*.whl with the locked setuptools
	@$(BIN)/python -m build --wheel --no-isolation

.PHONY: clean
clean: ## Remove caches and build output; keep .venv and the platform's data
	@rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	@rm -f .coverage .coverage.*
	@find . -path ./.venv -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help
help: ## Show this
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@/ { printf "%s%s\n", gap, substr($$0, 5); gap = "\n" } \
		/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

# What the targets stand on. A stamp is written last, so that an interrupted install is repeated.

.PHONY: moved
moved:
	@echo "setup: this folder was moved, so .venv is made again"
	@rm -rf .venv

.venv/.uv-stamp: requirements/uv.lock
	@$(BIN)/python -c 'import pip; $(IN_RANGE)' 2>/dev/null || { \
		for python in $(PYTHONS); do \
			"$$python" -c '$(IN_RANGE)' 2>/dev/null && break; python=; \
		done; \
		if [ -z "$$python" ]; then \
			echo "setup: this needs Python 3.11, 3.12 or 3.13, and $(PYTHON) is" \
				"$$("$(PYTHON)" -V 2>&1 | tail -n 1); install one, or name one:" \
				"make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
			exit 1; \
		fi; \
		"$$python" -c 'import ensurepip, venv' 2>/dev/null || { \
			echo "setup: $$("$$python" -V) comes without venv and ensurepip; install them" \
				"(Debian and Ubuntu: apt-get install python3-venv), or name another Python:" \
				"make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)" >&2; \
			exit 1; \
		}; \
		echo "setup: making .venv with $$("$$python" -V)"; \
		"$$python" -m venv --clear .venv || exit 1; \
	}
	@case "$$($(BIN)/python -c 'import platform as p; print(p.system(), p.machine())')" in \
		"Linux x86_64" | "Linux aarch64" | "Darwin arm64") ;; \
		*) echo "setup: the lock is made for Linux on x86_64 and aarch64 and macOS on arm64;" \
			"TensorFlow has no wheels for this machine ($$(uname -sm))" >&2; exit 1;; \
	esac
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input \
		--require-hashes -r requirements/uv.lock
	@pwd -P > .venv/.place
	@touch $@

.venv/.runtime-stamp: requirements/runtime.lock setup.cfg .venv/.uv-stamp
	@echo "setup: installing requirements/runtime.lock (2 GB on disk; minutes the first time)"
	@$(INSTALL) --require-hashes -r requirements/runtime.lock
	@$(INSTALL) --no-deps --no-build-isolation --reinstall-package mlops-pipeline -e .
	@touch $@

.venv/.dev-stamp: requirements/dev.lock .venv/.runtime-stamp
	@echo "setup: installing requirements/dev.lock (what checks and tests need)"
	@$(INSTALL) --require-hashes -r requirements/dev.lock
	@touch $@

.venv/%/.stamp: requirements/%.lock .venv/.uv-stamp
	@echo "setup: installing $< (a test or the benchmark compares with it)"
	@$(UV) venv --clear --python $(BIN)/python .venv/$*
	@$(UV) pip install --python .venv/$*/bin/python --require-hashes $(OPTIONS_$*) -r $<
	@touch $@
