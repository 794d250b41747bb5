#!/usr/bin/env bash
# Installs what building and testing need from the distribution's packages, and those named as arguments. Does nothing
# when all is there.
# Debian 12 and its relatives only: elsewhere it says what is missing.
set -euo pipefail

packages=(
  g++ cmake ninja-build make git curl ca-certificates python3 python3-venv pkg-config ccache clang-format
  libgrpc++-dev protobuf-compiler-grpc libprotobuf-dev protobuf-compiler libabsl-dev
  prometheus-cpp-dev libcurl4-openssl-dev zlib1g-dev
  libopenmpi-dev openmpi-bin
  libgtest-dev libgmock-dev libbenchmark-dev
  libjpeg62-turbo-dev libpng-dev libwebp-dev libgif-dev libpcre2-dev libxxhash-dev
  nlohmann-json3-dev libcli11-dev libspdlog-dev libssl-dev libboost1.81-dev libboost-context1.81-dev libsqlite3-dev openssl
  "$@"
)

missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "fulger: missing packages, and no apt-get to install them with: ${missing[*]}" >&2
  exit 1
fi
sudo=()
if [ "$(id -u)" -ne 0 ]; then
  command -v sudo >/dev/null || { echo "fulger: run as root once to install: ${missing[*]}" >&2; exit 1; }
  sudo=(sudo)
fi
echo "fulger: installing ${missing[*]}"
log=$(mktemp)
trap 'rm -f "$log"' EXIT
export DEBIAN_FRONTEND=noninteractive
if ! { "${sudo[@]}" apt-get update && "${sudo[@]}" apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "fulger: installing packages failed; the log's end is above" >&2
  exit 1
fi
