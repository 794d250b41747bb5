# The commands people type. Everything else is CMake (CMakePresets.json).
SHELL := /bin/bash
JOBS ?= $(shell nproc)
.PHONY: all deps build test check bench bench-check bundle test-gpu demo serve format lint clean

all: build

deps:
	@deploy/ci/install-deps.sh

build: deps
	@deploy/ci/build.sh release all

test: deps
	@deploy/ci/test.sh

# PART=slow|tidy|fuzz|cuda|asan|tsan, or several; all of them without
check: test
	@deploy/ci/check.sh $(PART)

bundle: deps
	@deploy/bundle/make_bundle.sh

# PART=ops|goldens|nccl|bench|cpu; ops without
test-gpu:
	@[ -x build-bundle/fulger-bundle/test_gpu.py ] || $(MAKE) bundle
	@build-bundle/fulger-bundle/test_gpu.py $(or $(PART),ops) --out $${OUT:-gpu-results}

bench: build
	@tests/bench/bench.py

bench-check: build
	@tests/bench/bench.py --check

demo:
	@deploy/demo/demo.sh

serve:
	@deploy/demo/demo.sh --stay

format:
	@git ls-files '*.h' '*.cc' '*.cu' '*.cuh' | xargs clang-format -i

clean:
	rm -rf build build-*
