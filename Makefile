# `make demo` and `make test` are all that a fresh machine needs: Python 3.11 to 3.14 and make.
# The first that is new enough and can make environments, which Debian's cannot without python3-venv;
# another by `make PYTHON=…`.
SUITABLE := import ensurepip, sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 14))
PYTHON ?= $(shell for each in python3 python3.13 python3.12 python3.11 python3.14; do \
  $$each -c '$(SUITABLE)' 2>/dev/null && { echo $$each; break; }; done)
VENV   := .venv
BIN    := $(VENV)/bin
# Tests start many hundreds of scripts: without their bytecode each would be compiled anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help docs venv demo page test test-failed check format soak bench bench-check kafka pubsub postgres redis lock resolve licences sbom clean

help:  ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

# What is installed is locked, with hashes: what serves (no TensorFlow), and all. A stamp for each.
LOCKED := $(BIN)/python -m pip install --disable-pip-version-check --require-hashes

$(BIN)/python:
	@$(or $(PYTHON),false) -c '$(SUITABLE)' 2>/dev/null \
	  || { echo "Python 3.11 to 3.14 with its module venv is needed (Debian: apt install python3-venv; macOS: brew install python), or tell where it is: make PYTHON=/path/to/python3"; exit 2; }
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 2; }

$(VENV)/.runtime: requirements.lock | $(BIN)/python
	$(LOCKED) -r requirements.lock
	@touch $@

$(VENV)/.development: requirements-dev.lock | $(BIN)/python
	$(LOCKED) -r requirements-dev.lock
	@touch $@

venv: $(VENV)/.development  ## make the virtual environment with all development tools

demo: $(VENV)/.runtime  ## run the whole pipeline on the embedded broker
	$(BIN)/python -m Pipeline.demo

page: $(VENV)/.runtime  ## the four scripts and the page on the embedded broker; Ctrl-C stops them all; PORT=8080
	exec $(BIN)/python -m Pipeline.page.together $(if $(PORT),--port $(PORT))

# Most tests wait for a broker: six processes, as tests/shared_out.py shares them out.
# exec: a SIGTERM to make is for pytest, which stops the brokers, and not for a shell between them.
test: $(VENV)/.development  ## run all tests
	exec $(BIN)/python -m pytest -m "not soak" -n 6

test-failed: $(VENV)/.development  ## run what failed last time once more, in one process
	exec $(BIN)/python -m pytest -m "not soak" --last-failed --last-failed-no-failures none

check: $(VENV)/.development  ## lint, formatting, types, the links of the docs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs: $(VENV)/.development  ## build the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

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

redis: $(VENV)/.development  ## start a real Redis here
	$(BIN)/python -m tests.engines.redis_server

# One tool makes both, for all Pythons and platforms at once; what is pinned stands in the two lists.
COMPILE := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-build --generate-hashes \
  --custom-compile-command "make lock"
SERVING := kafka pubsub redis postgres page tracing heic

lock: $(VENV)/.development  ## pin anew all that the lists of requirements bring with them
	$(COMPILE) pyproject.toml $(SERVING:%=--extra %) -c requirements-dev.txt -o requirements.lock
	$(COMPILE) requirements-dev.txt -o requirements-dev.lock

resolve: $(VENV)/.development  ## show that all pins have wheels for each Python and platform; minutes
	$(BIN)/python -m pytest -m soak tests/package/test_pythons.py -k wheels

# pyproject.toml does not hold the version, and a bill without one tells nobody what it is of.
define SET_VERSION
import json, pathlib
from DurableText.installation import __version__
bill = pathlib.Path("sbom.json")
told = json.loads(bill.read_text())
told["metadata"]["component"]["version"] = __version__
bill.write_text(json.dumps(told, indent=2) + "\n")
endef
sbom: export SET_VERSION := $(SET_VERSION)

licences: $(VENV)/.development  ## list the licences of all that serving installs
	$(BIN)/pip-licenses --from=mixed --with-urls --packages \
	  $$(sed -nE 's/^([A-Za-z0-9._-]+)==.*/\1/p' requirements.lock)

sbom: $(VENV)/.development  ## write sbom.json, in CycloneDX: all that serving installs, with hashes
	$(BIN)/cyclonedx-py requirements requirements.lock --pyproject pyproject.toml \
	  --output-reproducible -o sbom.json
	@$(BIN)/python -c "$$SET_VERSION"

clean:  ## remove what runs have made (the virtual environment stays)
	rm -rf .local_broker .demo .page demo.png sbom.json .pytest_cache .mypy_cache .ruff_cache .hypothesis
	rm -f Queue/log* Queue/queue-*.json DB/db_for_app_2*
