#!/usr/bin/env bash
# check.sh [PART...]: the slow rest, on top of test.sh. A part that fails does not stop the ones after it; the last lines say how
# each one went and how long it took, and the exit code is 0 only where all were clean. Without a PART all of them run, in order:
#   slow      tests labelled slow (other programs of this machine: Slurm, Prometheus, Chromium)
#   tidy      clang-tidy over the whole tree
#   fuzz      a minute of each fuzz target
#   cuda      kernels for every GPU architecture in the binary
#   asan      AddressSanitizer + UBSan over everything that needs no MPI
#   tsan      ThreadSanitizer over everything that is threaded and knows neither gRPC nor MPI (those libraries are not
#             instrumented and would be reported)
set -euo pipefail
cd "$(dirname "$0")/../.."
jobs=${JOBS:-$(nproc)}

check_slow() {
  deploy/ci/install-deps.sh chromium prometheus prometheus-alertmanager slurm-wlm munge iproute2 shellcheck
  ctest --test-dir build --output-on-failure --label-regex slow
}

check_tidy() {
  deploy/ci/tidy.sh
}

check_fuzz() {
  deploy/ci/fuzz.sh 60
}

check_cuda() {
  if [ ! -x build/tests/kernel_ops_cuda_test ]; then
    echo "SKIPPED: this build has no CUDA (no nvcc was found)"
    return
  fi
  deploy/ci/build.sh cuda kernel_ops_cuda_test
  local arch
  for arch in sm_80 sm_90a sm_100; do
    strings -a build-cuda/tests/kernel_ops_cuda_test | grep -- "-arch $arch " >/dev/null ||
      { echo "check.sh: no kernels for $arch in the binary" >&2; exit 1; }
  done
  echo "sm_80, sm_90a and sm_100 are in the binary"
}

check_asan() {
  deploy/ci/build.sh asan all
  # pipeline_test holds a rate, which instrumented code does not reach.
  ASAN_OPTIONS=detect_stack_use_after_return=1 UBSAN_OPTIONS=print_stacktrace=1 \
    ctest --test-dir build-asan --output-on-failure --parallel "$jobs" --label-exclude 'slow|mpi|e2e|python' --exclude-regex '^pipeline_test$'
}

check_tsan() {
  local tests=(base_test thread_fabric_test engine_test blocks_test kernel_parallel_test sequence_life_test layout_sweep_test)
  local available pattern t
  available=$(ctest --test-dir build -N | awk '/Test +#/ {print $3}')
  for t in "${tests[@]}"; do
    grep -qx "$t" <<<"$available" || { echo "check.sh: no test $t" >&2; exit 1; }
  done
  deploy/ci/build.sh tsan "${tests[@]}"
  pattern=$(IFS='|'; echo "^(${tests[*]})\$")
  # The sweep's larger layouts say nothing new about data races and take minutes each when instrumented.
  GTEST_FILTER='-*tp16*:*tp8*' ctest --test-dir build-tsan --output-on-failure --parallel "$jobs" --tests-regex "$pattern"
}

all=(slow tidy fuzz cuda asan tsan)
if [ "${1:-}" = --one ]; then
  # In a shell of its own, where set -e holds (it does not inside the condition of an if).
  "check_$2"
  exit
fi
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=("${all[@]}")
for part in "${parts[@]}"; do
  [[ " ${all[*]} " == *" $part "* ]] || { echo "check.sh: no part $part; there are: ${all[*]}" >&2; exit 2; }
done

summary=()
failed=0
for part in "${parts[@]}"; do
  echo "== $part"
  begin=$SECONDS
  if deploy/ci/check.sh --one "$part"; then result=clean; else result=FAILED; failed=1; fi
  summary+=("$(printf '%-6s %-6s %4d s' "$part" "$result" $((SECONDS - begin)))")
done
echo "== check"
printf '%s\n' "${summary[@]}"
exit "$failed"
