# Everything that a fresh machine needs: `make demo` shows the tool at work, `make test` tests it.
# `make demo CPU=1` takes PyTorch's build without CUDA, which is a tenth of the size.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check
APMCTL := $(VENV)/.apmctl
DEV := $(VENV)/.dev
SITE := $(VENV)/.site
DEMO := demo-store

CPU ?=
# torch and torchvision must be of one build, so one command takes both from one place.
CPU_TORCH ?= torch torchvision --index-url https://download.pytorch.org/whl/cpu
ifneq ($(CPU),)
SIZE := a download of about 0.4 GB, 1.5 GB on disk (PyTorch for CPUs only)
else ifeq ($(shell uname -s),Linux)
SIZE := a download of about 3 GB, 6 GB on disk (PyTorch with CUDA; `make $(MAKECMDGOALS) CPU=1`: 0.4 and 1.5 GB)
else
SIZE := a download of less than 1 GB, about 1.5 GB on disk
endif

.PHONY: demo test check docs site clean

demo: $(APMCTL)
	@PATH="$(abspath $(BIN)):$$PATH" DEMO="$(DEMO)" sh tools/demo.sh

test: $(DEV)
	$(BIN)/python -m pytest -q

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/gen_docs.py --check

docs: $(DEV)
	$(BIN)/python tools/gen_docs.py

# Every warning fails: a link to a page, a heading or a file that does not exist is one.
site: $(SITE)
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -E docs build/site
	@echo "build/site/index.html"

# Installed again only where the project's requirements have changed.
$(APMCTL): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1)." >&2; \
	  echo "Name another one: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	@echo 'Installing apmctl and PyTorch into $(VENV): $(SIZE).'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(if $(CPU),$(PIP) $(CPU_TORCH))
	$(PIP) -e .
	@touch $@

$(DEV): $(APMCTL)
	$(PIP) --quiet -e '.[dev]'
	@touch $@

$(SITE): $(APMCTL)
	$(PIP) --quiet -e '.[site]'
	@touch $@

clean:
	rm -rf $(DEMO) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
