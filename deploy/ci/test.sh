#!/usr/bin/env bash
# Everything that needs no GPU: headers, lint and tests. Prints one closing line from ctest.
set -euo pipefail
cd "$(dirname "$0")/../.."
deploy/ci/build.sh release all check_headers
python3 tests/lint/check_includes.py
python3 tests/lint/check_tree.py
ctest --test-dir build --output-on-failure --parallel "${JOBS:-$(nproc)}" --label-exclude slow
