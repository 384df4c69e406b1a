PYTHON ?= python3
BIN := .venv/bin

.PHONY: setup quickstart test test-all soak docs docs-serve lock dist

setup: .venv/installed

.venv/installed: pyproject.toml requirements.lock
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make setup PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable '.[test,docs]' --constraint requirements.lock
	touch $@

quickstart: setup
	$(BIN)/python -m experiments.main --config=configs/quickstart.py

test: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -m 'not slow'

test-all: test
	$(BIN)/python -m pytest -m slow
	DARTS_PT_OPTIMISED=1 $(BIN)/python -m pytest tests/test_determinism.py

soak: setup
	DARTS_PT_SOAK=1 $(BIN)/python -m pytest -rP tests/test_kills.py tests/test_resume.py tests/test_damage.py tests/test_soak.py tests/test_parsers.py tests/test_notebook.py tests/test_methods.py

docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

docs-serve: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve

lock:
	uv pip compile pyproject.toml --universal --python-version 3.11 --all-extras --no-emit-index-url --upgrade -o requirements.lock

dist: setup
	rm -rf build  # a wheel takes what an earlier one left there
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .
