# Two commands matter: `make demo` runs the main job, `make test` the tests. Both set everything up.
# PYTHON picks the interpreter (3.11 or newer); LITERT=no leaves the 1 GB .tflite converter out.

PYTHON  ?= $(shell command -v python3.11 || command -v python3)
LITERT  ?= yes
VENV    := .venv
BIN     := $(VENV)/bin
# Compiling 2 GB of packages to bytecode costs more time than it saves.
INSTALL := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt
comma   := ,
EXTRAS  := agent,onnxruntime,litert,controller,variants$(if $(filter yes,$(LITERT)),$(comma)variants-litert)
GENERATOR := build/generator

.PHONY: demo watch-demo dashboards test lint protos protos-check docs docs-check test-system test-packaging soak wheelhouse clean help

help:
	@echo "make demo         the whole path on real data: build, measure, report"
	@echo "make watch-demo   the demo's sweep, watched: live page, Prometheus, alerts"
	@echo "make test         everything that needs no root"
	@echo "make test-system  what needs root and Debian packages"
	@echo "make test-packaging  the agent on Python 3.10 to 3.13; what every kind of board would install"
	@echo "make wheelhouse   what hosts without internet need; TARGETS='agent:3.11:aarch64 ...'"
	@echo "make protos       generate assay.v1 anew      make docs   write the generated reference pages"

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "error: $(PYTHON) is older than Python 3.11; run make PYTHON=/path/to/python3.11" >&2; exit 2; }
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Assay with what the demo needs (a minute or two)"
	@$(INSTALL) -e '.[$(EXTRAS)]'
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(VENV)/bin/python
	@echo "installing Assay with everything the tests need (a minute or two)"
	@$(INSTALL) -e '.[$(EXTRAS),ncnn,variants-ncnn,test]'
	@touch $@ $(VENV)/.demo

$(VENV)/.test-system: $(VENV)/.test
	@echo "installing Ansible, which deploys to the hosts of the system tests"
	@$(INSTALL) -e '.[test-ansible]'
	@touch $@

demo: $(VENV)/.demo
	@$(BIN)/assay demo $(ARGS)

# Controller, agent and Prometheus with its rules, watching the demo's sweep.
watch-demo: $(VENV)/.demo
	@$(BIN)/python -m bench.watch.demo $(ARGS)

dashboards: $(VENV)/.test
	@$(BIN)/python -m dashboards.build

test: $(VENV)/.test lint protos-check docs-check
	$(BIN)/pytest -n 2 --dist loadfile -m 'not system and not soak and not packaging'

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# The generator is pinned and lives apart: its protobuf is older than the one Assay runs on.
$(GENERATOR)/.done: protos/generate.py
	@$(PYTHON) -m venv $(GENERATOR)
	@$(GENERATOR)/bin/pip install --quiet --disable-pip-version-check \
	  grpcio-tools==1.70.0 mypy-protobuf==3.7.0 setuptools==75.8.0
	@touch $@

protos: $(GENERATOR)/.done
	@PATH=$(CURDIR)/$(GENERATOR)/bin:$$PATH $(GENERATOR)/bin/python protos/generate.py

protos-check: $(GENERATOR)/.done
	@rm -rf build/protos && mkdir -p build/protos
	@PATH=$(CURDIR)/$(GENERATOR)/bin:$$PATH $(GENERATOR)/bin/python protos/generate.py build/protos >/dev/null
	@cd build/protos && for file in assay/v1/*; do \
	  cmp -s $$file $(CURDIR)/protos/$$file || { \
	    echo "error: protos/$$file is not what its .proto generates; run make protos" >&2; exit 1; }; done
	@echo "generated code is fresh"

docs: $(VENV)/.test
	@$(BIN)/python docs/generate.py

docs-check: $(VENV)/.test
	@$(BIN)/python docs/generate.py --check

# Needs root and apt; elsewhere each test is skipped with its reason.
test-system: $(VENV)/.test-system
	@tests/system/install-packages
	$(BIN)/pytest -m 'system and not soak'

# The agent on every Python it claims, and what pip would install on every kind of board.
test-packaging: $(VENV)/.test
	$(BIN)/pytest -rs -m packaging tests/packaging $(ARGS)

# Long ones, and those that need a quiet machine; their figures are printed at the end.
soak: $(VENV)/.test-system
	@tests/system/install-packages
	$(BIN)/pytest -m soak

# Assay and all it depends on, one archive per kind of host, for ansible/ and offline hosts.
wheelhouse: | $(VENV)/bin/python
	@$(BIN)/python packaging/wheelhouse.py $(ARGS) $(TARGETS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
