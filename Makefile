# `make` is everything CI runs but the fresh environments; `make fast` is what you run while you write.
PYTHON ?= python

.PHONY: all check format-check lint types contracts test docs-check fast fix torture parity bench demo sheets

all: check test

check: format-check lint types contracts docs-check

format-check:
	ruff format --check src tests examples benchmarks docs

lint:
	ruff check --no-cache src tests examples benchmarks docs

types:
	mypy

contracts:
	lint-imports

docs-check:
	$(PYTHON) docs/generate.py --check

test:
	$(PYTHON) -m pytest

fast:
	$(PYTHON) -m pytest tests/unit tests/protocol tests/cli -m "not slow" -x

fix:
	ruff check --fix src tests examples benchmarks docs
	ruff format src tests examples benchmarks docs
	$(PYTHON) docs/generate.py
	git diff --stat

torture:
	$(PYTHON) -m pytest -m torture

parity:
	$(PYTHON) -m pytest tests/parity

bench:
	$(PYTHON) benchmarks/run.py

demo:
	$(PYTHON) -m rankclip demo

SHARED ?= ../shared
SHEETS ?= /tmp/rankclip-sheets
sheets:
	$(PYTHON) examples/sheets.py --shared $(SHARED) --out $(SHEETS)
