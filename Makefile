# `make play` and `make test` each work by themselves on a machine that has only Python 3.11 and
# make: both set up .venv first, and do it again only when what is installed has changed.

PYTHON ?= python3
VENV := .venv
DATA ?= tests/data/doom-hall
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
INPUTS := pyproject.toml constraints.txt

.DEFAULT_GOAL := help
.PHONY: help play test soak fuzz style check types bench gpu links clean

help:  ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /\1: /p' Makefile | awk -F': ' '{ printf "make %-6s %s\n", $$1, $$2 }'

play: $(VENV)/play.stamp  ## open the default world (ARGS="..." goes to worldsim play)
	$(BIN)/worldsim play $(ARGS)

test: $(VENV)/dev.stamp  ## run the tests that need no GPU and little time
	$(BIN)/pytest -m "not gpu and not slow" $(ARGS)

soak: $(VENV)/dev.stamp  ## play three minutes on a server that must not leak (WORLDSIM_SOAK_SECONDS=1800)
	$(BIN)/pytest -m slow -k f32 tests/server/test_faults.py $(ARGS)

fuzz: $(VENV)/dev.stamp  ## five minutes of bytes near messages, for every decoder (Linux)
	$(PIP) --no-build-isolation --editable '.[fuzz]'
	$(BIN)/python tests/fuzz/decoders.py --seeds build/fuzz
	$(BIN)/python tests/fuzz/decoders.py build/fuzz -max_total_time=300 $(ARGS)

style: $(VENV)/dev.stamp  ## format the code and mend what ruff can mend
	$(BIN)/ruff format . && $(BIN)/ruff check --fix .

check: $(VENV)/dev.stamp  ## complain about style, change nothing
	$(BIN)/ruff format --check . && $(BIN)/ruff check .

# setuptools keeps deleted modules in build/lib, hence the rm; checking the installed copy proves
# the package table as well. cd: from the root, mypy would find the folders, not the packages.
types: $(VENV)/dev.stamp  ## type-check the installed copy, strictly
	rm -rf build
	$(PIP) --no-build-isolation --no-deps --target build/types .
	cd tests && MYPYPATH=../build/types ../$(BIN)/mypy --config-file ../pyproject.toml -p worldsim

bench: $(VENV)/play.stamp  ## measure action-to-frame latency of the default world
	$(BIN)/worldsim bench latency $(ARGS)

gpu: $(VENV)/dev.stamp  ## measure and train on a GPU, part by part (DATA=recordings, ARGS="--part latency")
	$(BIN)/python -m worldsim.benchmarks.gpu --data $(DATA) $(ARGS)

links:  ## show editors the import map: worldsim/tokenizer -> tokenizer, ...
	for name in tokenizer dynamics server clients benchmarks; do ln -sfn ../$$name worldsim/$$name; done

clean:  ## remove the environment and everything built
	rm -rf $(VENV) build *.egg-info .mypy_cache tests/.mypy_cache .ruff_cache .pytest_cache .hypothesis

# setuptools goes in by hand because the builds below reuse it instead of fetching their own.
$(VENV)/base.stamp: $(INPUTS)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "worldsim needs Python 3.11 or later; name one: make PYTHON=python3.11" >&2; exit 4; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch setuptools
	@touch $@

$(VENV)/play.stamp: $(VENV)/base.stamp
	$(PIP) --no-build-isolation --editable '.[play]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/base.stamp
	$(PIP) --no-build-isolation --editable '.[play,games,provenance,dev]'
	# its kernels, not compiled: a test runs them in Triton's interpreter, and is skipped without
	[ "$$(uname)" != Linux ] || MAMBA_FORCE_BUILD=TRUE MAMBA_SKIP_CUDA_BUILD=TRUE \
		$(PIP) --no-build-isolation --no-deps mamba-ssm \
		|| echo "mamba-ssm could not be installed: the test of its kernels is skipped" >&2
	@touch $@ $(VENV)/play.stamp
