# Everything runs from .venv, made from requirements.lock with nothing on the machine but Python 3.11+, venv, pip and make.
PYTHON ?= python3
DATA_DIR ?= data
PORT ?= 3000
SIZE ?= usual
UV_VERSION := 0.13.9

BIN := .venv/bin
STAMP := .venv/.installed
SQL_STAMP := .venv/.sql-linted
MODELS := $(shell find dbt_project/models dbt_project/tests -name '*.sql')
# Where pip is set up with a package index of its own, uv uses it too.
UV := env $$(index="$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}"; \
	test -z "$$index" || test -n "$$UV_DEFAULT_INDEX" || echo "UV_DEFAULT_INDEX=$$index") VIRTUAL_ENV=.venv $(BIN)/uv
PYTEST := $(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder
COMPILE := pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate

.PHONY: demo check test unit ui lint lock setup bench docs

demo: $(STAMP)  ## simulate three sites, run the whole pipeline, print the week
	$(BIN)/wattbook --data-dir $(DATA_DIR) demo

check: lint  ## what a change must pass before it is committed: style, types, and tests that need no whole book
	$(PYTEST) -m "not demo and not slow"

test: $(STAMP)  ## all tests, on at most four processes
	$(PYTEST)

bench: $(STAMP)  ## measure beside other ways and write docs/performance.md: make bench SIZE=quick, usual or large
	$(BIN)/python -m benchmarks --size $(SIZE)

docs: $(STAMP)  ## the manual as a site in .site/, its tables and reference files as the models say them
	$(BIN)/python -m docs.generated
	$(BIN)/sphinx-build --quiet --fail-on-warning --fresh-env --conf-dir docs . .site

unit: $(STAMP)  ## unit tests of one model, on a built book: make unit MODEL=fct_marginal_cost
	WATTBOOK_WAREHOUSE=$(abspath $(DATA_DIR))/warehouse.duckdb $(BIN)/dbt --quiet test \
		--project-dir dbt_project --profiles-dir dbt_project \
		--target-path $(abspath $(DATA_DIR))/dbt/target --log-path $(abspath $(DATA_DIR))/dbt/logs \
		--vars '{"lake_dir": "$(abspath $(DATA_DIR))/lake"}' --select "$(MODEL),test_type:unit"

ui: $(STAMP)  ## the Dagster UI on http://127.0.0.1:3000
	mkdir -p $(DATA_DIR)/dagster
	cp pipelines/orchestration/instance.yaml $(DATA_DIR)/dagster/dagster.yaml
	DAGSTER_HOME=$(abspath $(DATA_DIR))/dagster WATTBOOK_DATA_DIR=$(abspath $(DATA_DIR)) \
		$(BIN)/dagster dev --module-name pipelines.definitions --host 127.0.0.1 --port $(PORT)

lint: $(STAMP) $(SQL_STAMP)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Only files that changed since they last passed, unless what all of them depend on did.
$(SQL_STAMP): $(MODELS) $(STAMP) $(wildcard dbt_project/macros/* dbt_project/sqlfluff_library/*)
	$(BIN)/sqlfluff lint --processes 0 $(if $(filter-out $(MODELS),$?),dbt_project,$?)
	touch $@

setup: $(STAMP)  ## only the environment

$(STAMP): requirements.lock tests/duckdb-1.4.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) pip install --quiet --require-hashes --compile-bytecode --requirements requirements.lock
	$(UV) pip install --quiet --no-deps --no-build-isolation --editable .
	$(UV) pip install --quiet --require-hashes --target .venv/duckdb-1.4 --requirements tests/duckdb-1.4.lock
	touch $@

lock:  ## write both lock files anew from pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)
	$(UV) $(COMPILE) $(patsubst %,--extra %,dev postgres s3 spark) --upgrade pyproject.toml --output-file requirements.lock
	echo 'duckdb==1.4.*' | $(UV) $(COMPILE) --upgrade - --output-file tests/duckdb-1.4.lock
