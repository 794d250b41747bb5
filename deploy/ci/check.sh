#!/usr/bin/env bash
# The slow rest, on top of test.sh: slow-labelled tests, clang-tidy, a minute of fuzzing for each target, AddressSanitizer +
# UBSan over everything that needs no MPI, and ThreadSanitizer over everything that is threaded and knows neither gRPC nor
# MPI (those libraries are not instrumented and would be reported).
set -euo pipefail
cd "$(dirname "$0")/../.."
jobs=${JOBS:-$(nproc)}

echo "== slow tests"
deploy/ci/install-deps.sh chromium prometheus prometheus-alertmanager slurm-wlm munge
ctest --test-dir build --output-on-failure --label-regex slow

echo "== clang-tidy"
deploy/ci/tidy.sh

echo "== fuzzing"
deploy/ci/fuzz.sh 60

echo "== CUDA kernels for every architecture"
if [ -x build/tests/kernel_ops_cuda_test ]; then
  deploy/ci/build.sh cuda kernel_ops_cuda_test
  for arch in sm_80 sm_90a sm_100; do
    strings -a build-cuda/tests/kernel_ops_cuda_test | grep -- "-arch $arch " >/dev/null ||
      { echo "check.sh: no kernels for $arch in the binary" >&2; exit 1; }
  done
  echo "sm_80, sm_90a and sm_100 are in the binary"
else
  echo "SKIPPED: this build has no CUDA (no nvcc was found)"
fi

echo "== address and undefined behaviour"
deploy/ci/build.sh asan all
ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
  ctest --test-dir build-asan --output-on-failure --parallel "$jobs" --label-exclude 'slow|mpi|e2e|python'

echo "== threads"
tsan_tests=(base_test thread_fabric_test engine_test blocks_test kernel_parallel_test sequence_life_test layout_sweep_test)
available=$(ctest --test-dir build -N | awk '/Test +#/ {print $3}')
targets=()
for t in "${tsan_tests[@]}"; do
  if grep -qx "$t" <<<"$available"; then targets+=("$t"); else echo "check.sh: no test $t" >&2; exit 1; fi
done
deploy/ci/build.sh tsan "${targets[@]}"
pattern=$(IFS='|'; echo "^(${targets[*]})\$")
# The sweep's larger layouts say nothing new about data races and take minutes each when instrumented.
GTEST_FILTER='-*tp16*:*tp8*' ctest --test-dir build-tsan --output-on-failure --parallel "$jobs" --tests-regex "$pattern" --timeout 1200
echo "check: all clean"
