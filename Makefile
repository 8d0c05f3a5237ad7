# queryseg: make help lists what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: help setup demo test lint format docs clean

help:
	@sed -n 's/^\([a-z]*\):.*## /\1\t/p' Makefile

$(VENV)/.ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(VENV)/.ready ## virtual environment with everything (about 6 GB, 2 minutes)

demo: setup ## train on generated streets, evaluate on unseen domains, write demo/report.html
	$(BIN)/queryseg demo --out demo

test: setup ## all tests, on two processes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup ## ruff, mypy --strict on src, direction of imports, tables up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

format: setup ## what ruff can mend by itself
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

docs: setup ## regenerate the README's tables and the reference pages
	$(BIN)/python docs/generate.py

clean: ## remove the environment and generated files
	rm -rf $(VENV) demo runs build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
