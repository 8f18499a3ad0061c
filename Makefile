# `make run` shows it, `make test` tests it; neither needs anything else than Python 3.11 or newer and a C library.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps

LOCK   := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
          --no-emit-index-url --no-emit-find-links
APT    := apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends
# Servers and clients of tests/real, each in a virtual environment of its own: requirements/real-NAME.txt, .venvs/NAME.
REAL   := openai2 openai3 llamacpp dynamo llmock

.PHONY: run install test test-real lint soak chaos bench lock clean

run: $(VENV)/runtime.stamp
	$(BIN)/gpubalancer demo

install: $(VENV)/runtime.stamp

test: $(VENV)/dev.stamp lint
	$(BIN)/python -m pytest -n auto --dist loadfile -m "not real and not soak"

test-real: $(VENV)/dev.stamp $(REAL:%=.venvs/%.stamp)
	@command -v nginx >/dev/null || { echo "installing nginx-light (a system package)"; $(APT) nginx-light; } \
	  || { echo "nginx is needed for the differential test: install it and run this again"; exit 1; }
	@command -v valkey-server >/dev/null || command -v redis-server >/dev/null \
	  || { echo "installing valkey-server, else redis-server (a system package)"; $(APT) valkey-server || $(APT) redis-server; } \
	  || { echo "valkey-server or redis-server is needed for shared budgets: install one and run this again"; exit 1; }
	$(BIN)/python -m pytest -m real tests/real

soak: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -m soak tests

chaos: $(VENV)/dev.stamp
	$(BIN)/python -m tests.e2e.chaos --minutes 10 --out bench/results/chaos.md

bench: $(VENV)/dev.stamp
	$(BIN)/python -m bench.overhead

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: $(VENV)/dev.stamp
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) pyproject.toml requirements/build.in -o requirements/runtime.txt
	$(LOCK) pyproject.toml requirements/build.in --group dev -c requirements/runtime.txt -o requirements/dev.txt
	for name in $(filter-out dynamo,$(REAL)); do \
	  $(LOCK) requirements/real-$$name.in -o requirements/real-$$name.txt || exit 1; done
	$(LOCK) requirements/real-dynamo.in --override requirements/real-dynamo-override.in -o requirements/real-dynamo.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys, ensurepip; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer with its venv module is needed (Debian: apt-get install python3-venv)"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/runtime.stamp: requirements/runtime.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) -r requirements/runtime.txt
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --no-deps --no-build-isolation -e .
	touch $@

$(VENV)/dev.stamp: requirements/dev.txt $(VENV)/runtime.stamp
	$(PIP) -r requirements/dev.txt
	touch $@

.venvs/%.stamp: requirements/real-%.txt
	$(PYTHON) -m venv .venvs/$*
	.venvs/$*/bin/python -m pip --disable-pip-version-check install --quiet --require-hashes --no-deps -r $< \
	  || { echo "make test-real needs the packages of $<, and they could not be installed"; exit 1; }
	touch $@
