# `make demo` on a fresh machine costs a network; `make test` is what CI runs.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check --quiet
WORKERS ?= 2
# Where the built wheel is installed and tested: it sees the tools of .venv, never the checkout.
WHEEL  := build/wheel-venv
PINS   := pyproject.toml constraints.txt

.PHONY: venv dev demo test lint format wheel bench sweep docs clean

venv: $(VENV)/.runtime
dev: $(VENV)/.dev

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: $(PINS) | $(BIN)/python
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(PINS) $(VENV)/.runtime
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $@

demo: venv
	$(BIN)/costmodel analyze examples/mobilenet_v1.py --hw pixel8

lint: dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: dev
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

wheel: dev
	rm -rf build dist
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . >/dev/null
	$(PYTHON) -m venv --without-pip $(WHEEL)
	$(PIP) --python $(WHEEL)/bin/python install --no-deps --no-index dist/*.whl
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" \
	  > $$($(WHEEL)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/tools.pth

# PYTHONSAFEPATH keeps the checkout off sys.path, so that the suite meets the wheel alone.
test: lint wheel
	COSTMODEL_TEST_WHEEL=1 PYTHONSAFEPATH=1 PATH="$(CURDIR)/$(WHEEL)/bin:$$PATH" \
	  $(WHEEL)/bin/python -m pytest -n $(WORKERS) $(ARGS)

bench: dev
	$(BIN)/python benchmarks/speed.py $(ARGS)

sweep: dev
	$(BIN)/python benchmarks/sweep.py $(ARGS)

docs: dev
	$(BIN)/mkdocs build --strict

clean:
	rm -rf build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
