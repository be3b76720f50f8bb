# Two commands do everything on a fresh machine: `make demo` and `make test`.
# Each makes its own virtual environment from requirements locked by hash. Python 3.11 to 3.13.
# Another interpreter: make test PYTHON=python3.13 VENV=.venv-3.13

PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	$$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
VENV ?= .venv
BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip --disable-pip-version-check --quiet install --require-hashes

.PHONY: demo test lint format bench lock help

help: ## what there is
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 10

demo: $(VENV)/.run ## a guarded call, end to end (stays up when you are at a terminal)
	@$(BIN)/python -m ivrguard demo

test: $(VENV)/.dev ## every test, with branch coverage
	@rm -f .coverage .coverage.*
	@$(BIN)/python -m coverage run -m pytest -q -n 2 --dist worksteal
	@$(BIN)/python -m coverage combine -q
	@$(BIN)/python -m coverage report

lint: $(VENV)/.dev ## format, lint, types, the floors of the house, the example flows
	@$(BIN)/ruff format --check --quiet .
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m ivrguard check flows/

format: $(VENV)/.dev ## put the code in form
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev ## every benchmark beside its peers; writes docs/performance.md (half an hour; needs node and npm)
	@PYTHONPATH=tests $(BIN)/python -m bench --page docs/performance.md

LOCK = uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate pyproject.toml

lock: $(VENV)/.dev ## write the lock files anew from pyproject.toml (needs uv)
	$(LOCK) -o requirements.txt
	$(LOCK) --extra dev -o requirements-dev.txt
	$(LOCK) --extra traces -c requirements-dev.txt -o requirements-traces.txt

$(VENV)/.made:
	@test -n "$(PYTHON)" || { echo "ivrguard needs Python 3.11 to 3.13 with venv (Debian: apt-get install python3 python3-venv)"; exit 1; }
	@echo "making $(VENV) with $(PYTHON) …"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.run: requirements.txt | $(VENV)/.made
	@echo "installing what ivrguard needs, locked by hash …"
	@$(PIP) -r requirements.txt
	@touch $@

$(VENV)/.dev: requirements-dev.txt | $(VENV)/.made
	@echo "installing what the tests need, locked by hash …"
	@$(PIP) -r requirements-dev.txt
	@touch $@ $(VENV)/.run
