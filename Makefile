# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 to 3.13 and make.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-failed check format soak bench bench-check kafka pubsub postgres clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# A stamp a requirements file: the demo needs the run-time packages only.
$(VENV)/.runtime: requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
	  || { echo "Python 3.11 to 3.13 is needed: make PYTHON=python3.12"; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

$(VENV)/.development: requirements-dev.txt $(VENV)/.runtime
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

venv: $(VENV)/.development  ## make the virtual environment with all development tools

demo: $(VENV)/.runtime  ## run the whole pipeline on the embedded broker
	$(BIN)/python -m Pipeline.demo

# Most tests wait for a broker: two processes, as tests/two_processes.py shares them out.
# exec: a SIGTERM to make is for pytest, which stops the brokers, and not for a shell between them.
test: $(VENV)/.development  ## run all tests
	exec $(BIN)/python -m pytest -m "not soak" -n 2

test-failed: $(VENV)/.development  ## run what failed last time once more, in one process
	exec $(BIN)/python -m pytest -m "not soak" --last-failed --last-failed-no-failures none

check: $(VENV)/.development  ## lint, formatting, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .

format: $(VENV)/.development  ## format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

soak: $(VENV)/.development  ## run the long fault tests
	$(BIN)/python -m pytest -m soak -s

bench: $(VENV)/.development  ## measure everything: tables, pictures, benchmarks/RESULTS.md
	$(BIN)/python -m benchmarks

bench-check: $(VENV)/.development  ## is it slower than another commit? AGAINST=3368b85; about 5 minutes
	exec $(BIN)/python -m benchmarks.check $(if $(AGAINST),--against $(AGAINST))

kafka: $(VENV)/.development  ## start a real Apache Kafka here (needs Java 17 and Maven)
	$(BIN)/python -m tests.brokers.kafka_server

pubsub: $(VENV)/.development  ## start the Pub/Sub emulator here (needs Java and gcloud)
	$(BIN)/python -m tests.brokers.pubsub_emulator

postgres: $(VENV)/.development  ## start a real PostgreSQL here
	$(BIN)/python -m tests.engines.postgres_server

clean:  ## remove what runs have made (the virtual environment stays)
	rm -rf .local_broker .demo demo.png .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f Queue/log* DB/db_for_app_2*
