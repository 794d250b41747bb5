#!/usr/bin/env bash
# tidy.sh [FILE...]: clang-tidy with the list of .clang-tidy over every source that is not a test. Needs a configured
# build folder (compile_commands.json, generated headers).
set -euo pipefail
cd "$(dirname "$0")/../.."
deploy/ci/install-deps.sh clang-tidy
[ -f build/compile_commands.json ] || deploy/ci/build.sh release fulger fulger-worker
files=("$@")
[ ${#files[@]} -gt 0 ] || mapfile -t files < <(git ls-files 'base/*.cc' 'model/*.cc' 'kernels/*.cc' 'worker/*.cc' \
  'coordinator/*.cc' 'monitoring/*.cc' | grep -v '_test\.cc$')
# What this build does not compile (CUDA without nvcc) cannot be read either.
for i in "${!files[@]}"; do grep -qF "/${files[$i]}\"" build/compile_commands.json || unset "files[$i]"; done
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# GCC's warning flags that clang does not know are no findings.
if printf '%s\n' "${files[@]}" | xargs -P "${JOBS:-$(nproc)}" -n 4 clang-tidy --quiet -p build \
  --extra-arg=-Wno-unknown-warning-option >"$log" 2>&1; then
  echo "clang-tidy: ${#files[@]} files, clean"
else
  grep -E '(warning|error):' "$log" | sort -u | head -n 60 || tail -n 40 "$log"
  exit 1
fi
