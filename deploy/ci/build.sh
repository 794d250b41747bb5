#!/usr/bin/env bash
# build.sh PRESET TARGET...: configures when needed, then builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=$1; shift
dir=build; [ "$preset" = release ] || dir=build-$preset
[ -f "$dir/build.ninja" ] || cmake --preset "$preset" --log-level=WARNING
cmake --build "$dir" --parallel "${JOBS:-$(nproc)}" --target "$@"
