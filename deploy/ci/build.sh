#!/usr/bin/env bash
# build.sh PRESET TARGET...: configures when needed, then builds.
set -euo pipefail
cd "$(dirname "$0")/../.."
preset=$1; shift
dir=build; [ "$preset" = release ] || dir=build-$preset
# Lets a compiler cache serve another checkout of the same sources.
export CCACHE_BASEDIR="${CCACHE_BASEDIR:-$PWD}" CCACHE_NOHASHDIR=1
# FULGER_CONFIGURE: more options for the first configuration.
# shellcheck disable=SC2086
[ -f "$dir/build.ninja" ] || cmake --preset "$preset" --log-level=NOTICE ${FULGER_CONFIGURE:-}
cmake --build "$dir" --parallel "${JOBS:-$(nproc)}" --target "$@"
