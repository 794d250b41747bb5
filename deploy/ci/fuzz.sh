#!/usr/bin/env bash
# fuzz.sh [SECONDS [TARGET...]]: searches each fuzz target (tests/fuzz) for so long, as many at a time as there are
# cores. The corpus is kept in build-fuzz/corpus; an input that breaks a target is kept in build-fuzz/broken, and the
# exit code is 1.
set -euo pipefail
cd "$(dirname "$0")/../.."
seconds=${1:-60}; shift || true
deploy/ci/install-deps.sh clang libclang-rt-14-dev
deploy/ci/build.sh fuzz fuzzers

seeds_of() { sed -n "s|.*{\"$1\", [A-Za-z]*, \"\([^\"]*\)\"}.*|tests/\1|p" tests/fuzz/fuzz_target.h; }
targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(sed -n 's|.*{"\([a-z_]*\)", Fuzz.*|\1|p' tests/fuzz/fuzz_target.h)

run_one() {
  local target=$1 seeds found=tests/fuzz/found/$1 log=build-fuzz/$1.log
  seeds=$(seeds_of "$target")
  [ -n "$seeds" ] || { echo "fuzz.sh: no target $target" >&2; return 1; }
  mkdir -p "build-fuzz/corpus/$target" build-fuzz/broken
  [ -d "$found" ] || found=
  if build-fuzz/bin/"fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=3000 -max_len=65536 \
    -print_final_stats=1 -artifact_prefix="build-fuzz/broken/$target-" "build-fuzz/corpus/$target" "$seeds" \
    ${found:+"$found"} >"$log" 2>&1; then
    echo "$target: $(sed -n 's/^stat::number_of_executed_units: *//p' "$log") inputs, clean"
  else
    echo "$target: BROKEN"
    tail -n 40 "$log"
    return 1
  fi
}
export -f run_one seeds_of
export seconds
printf '%s\n' "${targets[@]}" | xargs -P "${JOBS:-$(nproc)}" -I{} bash -c 'run_one "$1"' _ {}
