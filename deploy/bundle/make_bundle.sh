#!/usr/bin/env bash
# make_bundle.sh: builds server, worker, tests and benchmarks into one folder that a bare machine with a GPU driver can
# run: build-bundle/fulger-bundle, at most 40 MB. Third-party libraries are linked statically where the distribution has
# archives; the rest lies in lib/. cuBLASLt and NCCL are loaded from the machine it is carried to.
set -euo pipefail
cd "$(dirname "$0")/../.."
max_mb=40
out=build-bundle/fulger-bundle
programs=(fulger fulger-worker fulger-kernel-bench)
tests=(kernel_ops_test single_fabric_test thread_fabric_test model_golden_test bfloat16_test sequence_life_test layout_sweep_test)
deploy/ci/build.sh bundle help >build-bundle.targets 2>/dev/null || true
has() { grep -q "^$1: phony" build-bundle.targets; }
for t in kernel_ops_cuda_test nccl_fabric_test; do if has "$t"; then tests+=("$t"); fi; done
if has fulger-gpu-bench; then programs+=(fulger-gpu-bench); fi
rm -f build-bundle.targets
deploy/ci/build.sh bundle "${programs[@]}" "${tests[@]}"

rm -rf "$out"
mkdir -p "$out"/{bin,tests,lib,golden}
for p in "${programs[@]}"; do cp "build-bundle/bin/$p" "$out/bin/"; done
for t in "${tests[@]}"; do cp "build-bundle/tests/$t" "$out/tests/"; done
cp -r tests/golden/model/data/. "$out/golden/"
cp deploy/bundle/test_gpu.py deploy/bundle/README.md "$out/"
git rev-parse HEAD >"$out/COMMIT" 2>/dev/null || echo unknown >"$out/COMMIT"

# Shared libraries that are neither the C and C++ runtime nor the kernel's: carried.
runtime='^(linux-vdso|ld-linux|libc|libm|libdl|librt|libpthread|libgcc_s|libstdc\+\+|libresolv)\b'
for f in "$out"/bin/* "$out"/tests/*; do ldd "$f"; done |
  awk '$2 == "=>" && $3 ~ /^\// {print $1, $3}' | sort -u |
  while read -r name path; do
    [[ $name =~ $runtime ]] || cp -L "$path" "$out/lib/$name"
  done
if ldd "$out"/bin/* "$out"/tests/* | grep -E 'libcuda\.so|not found'; then
  echo "make_bundle.sh: a program needs the driver's library, or one that is missing" >&2
  exit 1
fi
mb=$(du -sm "$out" | cut -f1)
echo "$out: $mb MB, $(ls "$out/lib" | wc -l) shared libraries carried"
[ "$mb" -le "$max_mb" ] || { echo "make_bundle.sh: at most $max_mb MB" >&2; du -m "$out"/*/* | sort -rn | head >&2; exit 1; }
