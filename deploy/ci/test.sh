#!/usr/bin/env bash
# Everything that needs no GPU: headers, lint and tests. Prints one closing line from ctest.
set -euo pipefail
cd "$(dirname "$0")/../.."
# A tree that make demo configured has left CUDA for now.
if grep -qs '^FULGER_CUDA:STRING=SKIP$' build/CMakeCache.txt; then
  cmake --preset release --log-level=NOTICE -DFULGER_CUDA=AUTO
fi
deploy/ci/build.sh release all check_headers
python3 tests/lint/check_includes.py
python3 tests/lint/check_tree.py
ctest --test-dir build --output-on-failure --parallel "${JOBS:-$(nproc)}" --label-exclude slow
