# `make` lists what there is. Everything works from a fresh clone: what is missing is set up first.
SHELL := /bin/bash
.DEFAULT_GOAL := help

BUILD := build/release
PYTHON := .venv/bin/python
# One compiler per core, but no more than one per 1.5 GiB of memory.
JOBS ?= $(shell awk -v n=$$(nproc) '/^MemAvailable/ {m = int($$2 / 1500000); print (m < 1 ? 1 : (m < n ? m : n))}' /proc/meminfo)
TINY ?=
SEED ?=
CPP_SOURCES = $$(git ls-files -co --exclude-standard -- '*.h' '*.cc')

.PHONY: help setup build build-tests test test-cpp test-python demo peers bench faults docs format lint asan tsan clean

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup:  ## system packages, .venv, torch (does nothing when all is there)
	@scripts/setup.sh

build: setup  ## compile librft.so and the Python extension into build/release
	@[ -f $(BUILD)/build.ninja ] || cmake --preset release
	@cmake --build $(BUILD) -j $(JOBS) --target rft_runtime

build-tests: build  ## compile the C++ tests and the examples' programs, too
	@cmake --build $(BUILD) -j $(JOBS)

test: test-cpp test-python  ## set up and build if needed, then every test: GoogleTest, then pytest
	@echo "make test: all C++ and Python tests passed"

# Suites that only compute share the cores; those with deadlines, processes or sockets run one test at a time.
COMPUTING := '^(tensor|models|losses|train|parity)$$'

test-cpp: build-tests
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error --progress -j $(JOBS) -L $(COMPUTING)
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error --progress -LE $(COMPUTING)

test-python: build
	@$(PYTHON) -m pytest

demo: build  ## train SmolLM2-135M on a small task and show the reward before and after (TINY=1: a tiny model; SEED=n)
	@$(PYTHON) scripts/demo.py $(if $(filter-out 0,$(TINY)),--tiny) $(if $(SEED),--seed $(SEED))

peers:  ## .venv-peers: the programs that the benchmarks compare with (once)
	@scripts/setup_peers.sh

bench: build  ## all benchmarks, one JSON line per figure; with the peers where .venv-peers is there
	@for name in $$(.venv/bin/rft bench list); do .venv/bin/rft bench $$name $(if $(wildcard .venv-peers/.rft-peers),--peers) || exit 1; done

faults: build-tests  ## only the tests that break things: dead workers, full disks, lost writes; each misbehaving grader RUNS=100 times
	@ctest --test-dir $(BUILD) --output-on-failure --no-tests=error -R '^(PythonGrader|GraderPool|Journal|Manifest)Test'
	@RFT_FAULT_RUNS=$(or $(RUNS),100) $(BUILD)/tests/rft_tests_core --gtest_brief=1 --gtest_filter='MisbehavingGradersTest.*'

docs: build  ## write docs/config.md from the configuration's declaration
	@mkdir -p docs
	@$(PYTHON) -c 'import rft; print(rft.RunConfig.docs(), end="")' > docs/config.md.new && mv docs/config.md.new docs/config.md
	@echo "docs/config.md written"

format: setup  ## clang-format and ruff over the whole tree
	@.venv/bin/clang-format -i $(CPP_SOURCES)
	@.venv/bin/ruff check --quiet --fix-only .

lint: setup  ## what .ci/run checks beside the tests: format, includes between rooms, Python, YAML
	@.venv/bin/clang-format --dry-run -Werror $(CPP_SOURCES)
	@.venv/bin/ruff check --quiet .
	@$(PYTHON) scripts/lint.py

asan: setup  ## build and run the C++ tests under the address sanitizer (build/asan)
	@cmake --preset asan && cmake --build --preset asan -j $(JOBS) && ctest --preset asan

tsan: setup  ## the same for the torch-free rooms under the thread sanitizer (build/tsan)
	@cmake --preset tsan && cmake --build --preset tsan -j $(JOBS) && ctest --preset tsan

clean:  ## remove build folders and the built extension; keeps .venv, models and runs
	rm -rf build bindings/python/rft/_rft*.so
