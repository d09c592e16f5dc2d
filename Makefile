# The tasks of a checkout. `make` on its own lists the targets.

PYTHON ?= python3
BIN := .venv/bin
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help run test check audit bench soak race history schema examples picture viewer lock clean

help: ## List the targets
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

run: .venv/run ## Serve on http://127.0.0.1:8000, with an embedded PostgreSQL unless DATABASE_URL is set
	@exec $(BIN)/python -m service serve

# Bytecode is written even where the environment forbids it: otherwise each worker compiles all tests anew, and each of
# the hundreds of processes that they start compiles the service.
test: .venv/dev ## Run every test, on all cores; TESTS="…" instead has the arguments of pytest
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest $(or $(TESTS),$(ALL_TESTS))

ALL_TESTS := -n auto

check: .venv/dev ## Check style, types, migrations and deploy/
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/squawk --config .squawk.toml sql/migrations/*.sql
	$(BIN)/hadolint deploy/Dockerfile deploy/pgbouncer/Dockerfile deploy/plproxy/Dockerfile
	$(BIN)/check-jsonschema --quiet --builtin-schema vendor.compose-spec deploy/compose.yaml
	$(BIN)/kubernetes-validate --quiet --strict $(filter-out %/kustomization.yaml,$(wildcard deploy/kubernetes/*.yaml))

audit: .venv/dev ## Check the locked dependencies for known vulnerabilities (needs the network)
	$(BIN)/pip-audit --require-hashes --disable-pip --timeout 5 -r requirements.txt

bench: .venv/dev ## Measure requests per second, and what a decision costs inside PostgreSQL
	$(BIN)/python -m tests.bench $(ARGS)
	$(BIN)/python -m tests.bench.decisions $(DECISIONS)

examples: .venv/dev ## Record the examples of the OpenAPI document anew, from real answers
	RECORD_EXAMPLES=1 $(BIN)/python -m pytest -q tests/http/test_examples.py

picture: .venv/dev ## Draw the picture of the booking page in the README anew (needs chromium)
	DRAW_PICTURE=1 $(BIN)/python -m pytest -q tests/pages/test_booking_page.py -k readme

viewer: ## Renew the vendored viewer of the documentation (needs npm): make viewer VERSION=5.35.0
	@cd $$(mktemp -d) && npm pack --silent swagger-ui-dist@$(VERSION) && tar xzf swagger-ui-dist-*.tgz && \
	cd package && cp swagger-ui-bundle.js swagger-ui-bundle.js.LICENSE.txt swagger-ui.css LICENSE NOTICE $(VIEWER) && \
	sed -i '/sourceMappingURL/d' $(VIEWER)/swagger-ui.css && echo $(VERSION) > $(VIEWER)/VERSION

VIEWER := $(CURDIR)/service/api/static/swagger-ui

soak: .venv/dev ## Run mixed load for an hour and compare the end with the beginning; ARGS="--minutes 5" for less
	$(BIN)/python -m tests.soak $(ARGS)

race: .venv/dev ## Race fifty clients at one slot, in this design and in four that fail
	$(BIN)/python -m tests.concurrency.race

history: .venv/dev ## Check what many clients are answered while faults are injected: ARGS="--seconds 600 --seed 7"
	$(BIN)/python -m tests.history $(ARGS)

schema: .venv/dev ## Write sql/schema.sql, the schema that the migrations lead to
	$(BIN)/python -m tests.schema

lock: ## Renew the lock files (needs uv)
	uv pip compile $(LOCK_OPTIONS) --extra embedded -o requirements.txt pyproject.toml
	uv pip compile $(LOCK_OPTIONS) --extra embedded --extra otel --extra dev -o requirements-dev.txt pyproject.toml

LOCK_OPTIONS := --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	--no-header --no-annotate --no-emit-index-url

clean: ## Remove the environment and caches; keeps the data in .data
	rm -rf .venv .mypy_cache .ruff_cache .hypothesis dist *.egg-info tests/clients/node_modules

# The packages of the lock files are not all built for Python 3.15: pip would try to compile them.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15) and "Holdfast runs on Python 3.11 to 3.14; choose one: make PYTHON=python3.12 …")'
	$(PYTHON) -m venv .venv

# All packages come from the lock files, with hashes. `make run` needs the first file only.
.venv/run: requirements.txt | .venv/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements.txt
	@touch $@

.venv/dev: requirements-dev.txt pyproject.toml | .venv/bin/python
	$(PIP_INSTALL) --require-hashes -r requirements-dev.txt
	$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ .venv/run
