# Two commands matter: `make run` and `make test`. Everything they need is installed into .venv from pinned versions.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
USE    := $(VENV)/.run-installed
DEV    := $(VENV)/.test-installed

.PHONY: run test long bench proof fmt lint clean help

help:            ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' $(MAKEFILE_LIST)

run: $(USE)      ## start the daemon: in front of your Ollama, or of a stand-in where there is none
	@exec $(BIN)/ollama-scheduler run $(ARGS)

test: $(DEV)     ## everything, from nothing; the real-Ollama tests run where `go` or `ollama` is there
	@echo "a real Ollama for the tests (built once, by go) ..."
	@$(BIN)/python -m tests.realollama.build || true
	$(BIN)/python -m pytest $(ARGS)

long: $(DEV)     ## what is too slow for every run
	HYPOTHESIS_PROFILE=long $(BIN)/python -m pytest -m "long or promises" --timeout 3600 -o faulthandler_timeout=3600 $(ARGS)

bench: $(DEV)    ## what forwarding and deciding cost, against direct, in one run
	$(BIN)/python -m scheduler.bench $(ARGS)

proof: $(DEV)    ## what the default policy is worth: every claim measured, beside its target
	$(BIN)/python -m scheduler.proof $(ARGS)

fmt: $(DEV)      ## format
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: $(DEV)     ## what the tests check of style, types and import directions
	$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/mypy && $(BIN)/lint-imports

clean:           ## forget the environment and the caches
	rm -rf $(VENV) .cache .hypothesis .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12")'
	@$(PYTHON) -m venv $(VENV)

$(USE): requirements.txt pyproject.toml | $(VENV)/bin/python
	@echo "installing into $(VENV) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

$(DEV): requirements-test.txt $(USE)
	@echo "installing what the tests need ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-test.txt
	@touch $@
