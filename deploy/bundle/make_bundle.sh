#!/usr/bin/env bash
# make_bundle.sh: builds server, worker, tests and benchmark into one folder that a bare machine with a GPU driver can run:
# build-bundle/fulger-bundle, at most 40 MB. The shared libraries of the distribution lie in lib/, once each (linked
# statically into every program they would take three times the room); cuBLASLt and NCCL are loaded from the machine.
set -euo pipefail
cd "$(dirname "$0")/../.."
max_mb=40
out=build-bundle/fulger-bundle
programs=(fulger fulger-worker fulger-gpu-tests)
deploy/ci/build.sh bundle "${programs[@]}"

rm -rf "$out"
mkdir -p "$out"/{bin,lib,golden}
for p in "${programs[@]}"; do cp "build-bundle/bin/$p" "$out/bin/"; done
cp -r tests/golden/model/data/. "$out/golden/"
cp deploy/bundle/test_gpu.py deploy/bundle/README.md "$out/"
git rev-parse HEAD >"$out/COMMIT" 2>/dev/null || echo unknown >"$out/COMMIT"

# All but the C and C++ runtime, which every machine has.
runtime='^(linux-vdso|ld-linux.*|libc|libm|libdl|librt|libpthread|libresolv|libgcc_s|libstdc\+\+)\.so'
for p in "$out"/bin/*; do ldd "$p"; done | awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u |
  while read -r name path; do
    [[ $name =~ $runtime ]] || cp -L "$path" "$out/lib/$name"
  done

# A program that needs the driver's library would not start where there is none.
for p in "$out"/bin/*; do
  if env -i PATH=/usr/bin:/bin ldd "$p" | grep -E 'libcuda\.so|not found'; then
    echo "make_bundle.sh: $p needs what a bare machine lacks" >&2
    exit 1
  fi
  readelf -d "$p" | grep -q 'RPATH.*\$ORIGIN/../lib' || { echo "make_bundle.sh: $p does not look into lib/" >&2; exit 1; }
done
mb=$(du -sm --apparent-size "$out" | cut -f1)
echo "$out: $mb MB, $(ls "$out/lib" | wc -l) shared libraries carried"
if [ "$mb" -gt "$max_mb" ]; then
  echo "make_bundle.sh: at most $max_mb MB" >&2
  find "$out" -type f -size +500k -printf '%s %p\n' | sort -rn >&2
  exit 1
fi
